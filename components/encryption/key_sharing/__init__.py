"""`share`: deals shares of what masks a site's update, so that others can finish for it."""
