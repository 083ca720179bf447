"""What each party erases of its own, and how long it keeps it."""
