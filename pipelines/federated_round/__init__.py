"""One federated round as a Kubeflow pipeline."""

from pipelines.federated_round.pipeline import federated_round

__all__ = ["federated_round"]
