"""Where a step runs and how it ends: outcomes, deadlines, one-line errors, the journal of a round."""
