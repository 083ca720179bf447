"""What a site learns from its features: heads, local training, adaptation to its own records."""
