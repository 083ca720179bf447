"""A site's step, wherever it runs: in this process, or as a Job in the site's own cluster."""
