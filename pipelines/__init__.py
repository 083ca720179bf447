"""Pipelines made of the steps in `components`, and the `crosscloud` command."""
