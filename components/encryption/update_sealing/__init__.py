"""`seal`: Eq. 5, ŵ = Enc(w), at the site."""
