"""Four hospitals to try a federation on: real diagnoses, made-up patients."""
