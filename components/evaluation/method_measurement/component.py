"""The `measure` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPARISON, install_kfp_package=False, packages_to_install=[])
def measure(
    configurations: str,
    earlier: dict[str, str],
    store_uri: str,
    corpus: dsl.Input[dsl.Dataset],
    outcomes: dsl.Output[dsl.Artifact],
) -> NamedTuple("Measured", [("records", str)]):
    """Measures configurations of one method on the corpus, one after another; what is measured is kept.

    Args:
        configurations: a JSON list of them.
        earlier: reference of the records of every task of the stages before.
        store_uri: store of the comparison, in which another try finds what is finished.
        corpus: what methods learn from.
        outcomes: the records, for people.
    """
    from components.evaluation.method_measurement import step
    from components.execution import central_step

    outcome = central_step.run(
        lambda: step.measure_listed(
            configurations, earlier=earlier, corpus=corpus.path, store_uri=store_uri, path=outcomes.path
        ),
        name="measure",
        exchange_uri=store_uri,
    )
    outcomes.metadata.update(outcome.manifest)
    return (outcome.reference,)
