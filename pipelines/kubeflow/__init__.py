"""Submits, schedules and follows rounds at a Kubeflow Pipelines endpoint."""
