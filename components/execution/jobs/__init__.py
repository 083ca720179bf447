"""A site's step as a `batch/v1` Job of the site's own cluster: created or adopted, watched, cancelled."""
