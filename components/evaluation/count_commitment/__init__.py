"""`count`: commits to a site's confusion counts, which only a sum of agreed sites will ever show."""
