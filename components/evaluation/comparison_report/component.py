"""The `compare` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPARISON, install_kfp_package=False, packages_to_install=[])
def compare(
    records: dict[str, str],
    sites: int,
    quick: bool,
    language_model: str,
    command: str,
    store_uri: str,
    corpus: dsl.Input[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    results: dsl.Output[dsl.Artifact],
) -> NamedTuple("Compared", [("number_of_records", int)]):
    """Writes the report of a comparison, and every number of it as JSON.

    Args:
        records: reference of the records of every `measure` task.
        sites: among which the rows were dealt.
        quick: whether this is the reduced comparison.
        language_model: that made the features.
        command: that compiles the pipeline.
        store_uri: store of the comparison.
        corpus: what methods learned from.
        page: the report.
        results: results.json.
    """
    from components.evaluation.comparison_report import step
    from components.execution import central_step

    outcome = central_step.run(
        lambda: step.write_report(
            records,
            corpus=corpus.path,
            sites=sites,
            quick=quick,
            language_model=language_model,
            command=command,
            store_uri=store_uri,
            page=page.path,
            results=results.path,
        ),
        name="compare",
        exchange_uri=store_uri,
    )
    results.metadata.update(outcome.manifest)
    return (outcome.manifest["records"],)
