"""`evaluate`: the committed and the adapted model on a site's test rows."""
