"""A federation rehearsed in one process, on a corpus that may be in one place."""
