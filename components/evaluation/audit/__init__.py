"""A canary audit of the whole sealed mechanism: from what it opens, how private can it be at most."""
