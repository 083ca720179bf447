"""`commit_round`: makes the next global model from the opened sum, once."""
