"""What a comparison keeps of its measurements: outcomes by what they follow from, and one document."""
