"""`augment`: Eq. 3, z = LLM(x), contextual features from a frozen language model."""
