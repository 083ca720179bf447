"""The command's groups: one module each, beside the commands of `pipelines/cli.py`."""
