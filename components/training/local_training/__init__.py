"""`train`: Eq. 4, the local objective on (z, y), at the site."""
