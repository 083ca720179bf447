"""The comparison on Kubeflow: make the corpus → measure, stage by stage and method by method → report.

Tasks are unrolled here, one a stage and method, each with its list of configurations: a task that is tried
again finds in the store what it has finished.
"""

import json
from functools import partial

from kfp import dsl
from kfp.dsl import base_component

from components.errors import UsageError
from components.evaluation.comparison_report.component import compare
from components.evaluation.corpus_preparation.component import prepare_corpus
from components.evaluation.method_measurement.component import measure
from components.evaluation.method_measurement.configurations import Configuration, Scope, stages
from pipelines.federation import Federation
from pipelines.placement import place

ALL_METHODS = "all methods"
LARGEST_LIST = 120_000
"""Bytes of a task's configurations: they reach it within one argument, of which Linux takes 128 KiB."""


def baseline_comparison(federation: Federation, scope: Scope) -> base_component.BaseComponent:
    """The pipeline of a scope; its parameters are where the data are and where outcomes are kept.

    Raises:
        UsageError: a task's list of configurations is too long.
    """
    encoder = federation.encoder
    put = partial(place, placement=federation.coordinator, federation=federation)
    parent, separator, _ = federation.state_uri.rpartition("/")

    @dsl.pipeline(
        name=f"{federation.federation}-comparison",
        display_name=f"{federation.title}: comparison",
        description=f"{', '.join(scope.methods)} on a data set that may lie in one place.",
    )
    def comparison_pipeline(
        data_uri: str, store_uri: str = f"{parent}{separator}comparison", device: str = "auto"
    ) -> None:
        prepared = prepare_corpus(
            data_uri=data_uri,
            encoder=encoder.name,
            revision=encoder.revision,
            digest=encoder.digest,
            max_length=encoder.max_length,
            dimensions=encoder.dimensions,
            quick=scope.quick,
            device=device,
            store_uri=store_uri,
        )
        put(prepared, title="prepare corpus", computes=True)
        corpus = prepared.outputs["corpus"]

        records: dict[str, object] = {}
        for number, stage in enumerate(stages(scope), start=1):
            earlier = dict(records)
            for method, configurations in of_methods(stage).items():
                measured = measure(
                    configurations=listed(configurations),
                    earlier=earlier,
                    store_uri=store_uri,
                    corpus=corpus,
                )
                put(measured, title=f"measure · {method} · stage {number}")
                records[f"{number} {method}"] = measured.outputs["records"]
        told = compare(
            records=records,
            sites=scope.sites,
            quick=scope.quick,
            language_model=encoder.name,
            command="crosscloud compile FEDERATION.yaml --comparison",
            store_uri=store_uri,
            corpus=corpus,
        )
        put(told, title="compare")

    pipeline: base_component.BaseComponent = comparison_pipeline
    return pipeline


def of_methods(stage: list[Configuration]) -> dict[str, list[Configuration]]:
    """The configurations of a stage by their method, in the order they have there."""
    found: dict[str, list[Configuration]] = {}
    for configuration in stage:
        found.setdefault(configuration.get("method", ALL_METHODS), []).append(configuration)
    return found


def listed(configurations: list[Configuration]) -> str:
    """A task's configurations as its one parameter.

    Raises:
        UsageError: there are too many.
    """
    text = json.dumps(configurations, separators=(",", ":"))
    if len(text) > LARGEST_LIST:
        raise UsageError(
            f"a task would be given {len(text):,} bytes of configurations, of which {LARGEST_LIST:,} fit: "
            "ask for fewer seeds"
        )
    return text
