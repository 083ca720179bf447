"""Protection `sealed`: exact integer sums under BFV."""
