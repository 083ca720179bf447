"""What protects an update on its way: sealing, adding sealed updates, opening the sum."""
