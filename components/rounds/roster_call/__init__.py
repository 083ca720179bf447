"""`roster`: applies the quorum once and fixes who takes part."""
