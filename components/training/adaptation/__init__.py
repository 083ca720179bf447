"""The `adapt` step: what a site adds to the global model for its own records."""
