"""The `prepare_corpus` step: from texts that may lie in one place to what a comparison learns from."""
