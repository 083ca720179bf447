"""Checks compiled Kubeflow specs offline: that they fit together, and that they keep the house's rules."""
