"""The `report` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.AGGREGATOR, install_kfp_package=False, packages_to_install=[])
def report(
    figures: dict[str, str],
    reasons: dict[str, str],
    clouds: dict[str, str],
    title: str,
    method: str,
    classes: list[str],
    committed: str,
    ticket: str,
    metrics_ticket: str,
    metrics_receipt: str,
    state_uri: str,
    exchange_uri: str,
    keys_uri: str,
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
) -> NamedTuple("Reported", [("report", str)]):
    """Writes the report of the round and finishes it.

    Args:
        figures: reference of the published figures by site, empty where they are kept.
        reasons: why a site could not be evaluated.
        clouds: cloud by site.
        title: of the federation.
        method: name of the method.
        classes: labels in the order of the outputs of the model.
        committed: reference of the committed round.
        ticket: reference of the ticket.
        metrics_ticket: reference of the ticket for metrics, empty in a round without.
        metrics_receipt: reference of the receipt of the sealed counts, empty where none were opened.
        state_uri: store of the committed rounds.
        exchange_uri: the store all parties read.
        keys_uri: folder of the public keys.
        page: the report.
        metrics: figures of the sealed sum of counts.
        confusion: its confusion matrix of the committed model, rounded.
    """
    from components.evaluation.round_report import report as reporting
    from components.execution import central_step

    story = reporting.Story(title=title, method=method, classes=tuple(classes), clouds=clouds)
    outcome = central_step.run(
        lambda: reporting.write_report(
            story,
            figures,
            reasons,
            committed=committed,
            ticket=ticket,
            state_uri=state_uri,
            exchange_uri=exchange_uri,
            keys_uri=keys_uri,
            page=page.path,
            counted=reporting.Counted(ticket=metrics_ticket, receipt=metrics_receipt),
        ),
        name="report",
        exchange_uri=exchange_uri,
        ticket=ticket,
    )
    for name, value in outcome.metrics.items():
        metrics.log_metric(name, value)
    if table := outcome.manifest.get("confusion"):
        confusion.log_confusion_matrix(classes, table)
    return (outcome.reference,)
