"""Who is in the sum, and the sum."""
