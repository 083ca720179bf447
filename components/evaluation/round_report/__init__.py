"""The `report` step: one page about a federation's rounds."""
