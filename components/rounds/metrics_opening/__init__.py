"""`open_metrics`: issues the ticket of the second exchange of a round, in which counts are summed."""
