"""Protection `he`: approximate sums under CKKS."""
