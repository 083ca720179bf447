"""A site's records in BigQuery: what a query costs, reads and discloses is settled before it runs."""
