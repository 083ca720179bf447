"""What crosses a step boundary: documents, named tensors and the stores they lie in."""
