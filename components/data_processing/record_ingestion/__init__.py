"""Step `ingest`: reads a site's records, checks them and keeps what the task needs in the site's store."""
