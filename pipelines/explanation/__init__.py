"""What has left a site, for the site's own officer: from its own records, in words."""
