"""`open`: Eq. 6, Dec(Σ …), by the key holder."""
