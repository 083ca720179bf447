"""The committed state of a federation, and the steps that open, call and commit a round."""
