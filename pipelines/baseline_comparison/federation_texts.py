"""The sample data of a federation, of all sites together: they are made, so they may lie in one place."""

from __future__ import annotations

from rich.console import Console

from components.agreement.public_corpus import read_corpus, texts_of
from components.artifacts.stores import open_store
from components.data_processing.declared_columns import DeclaredColumn
from components.data_processing.query import IS_TEST, LABEL
from components.data_processing.record_ingestion.extraction import extract
from components.data_processing.sources import open_source
from components.data_processing.template import columns_of, render
from components.errors import UsageError
from components.evaluation.corpus_preparation.texts import Texts
from pipelines.federation import Federation
from pipelines.federation_run import make_sample_data
from pipelines.federation_sections import Site
from pipelines.readiness import unpublished_corpus

Rows = list[tuple[str, str, bool]]


def federation_texts(federation: Federation, console: Console) -> Texts:
    """The texts of all sites, read as their ingestion reads them and split as their warehouses split them.

    Raises:
        UsageError: the federation has no sample data.
        SiteError: a warehouse cannot be read, or its rows break the contract.
    """
    if federation.sample_data is None:
        raise UsageError(
            f"{federation.federation} has no sample_data, and rows of its sites may not come together: "
            "name a data set that may lie in one place with --data FOLDER"
        )
    make_sample_data(federation, console)
    rows = [row for site in federation.sites for row in _rows(federation, site)]
    number = {name: place for place, name in enumerate(federation.task.classes)}
    train = [(text, number[label]) for text, label, is_test in rows if not is_test]
    test = [(text, number[label]) for text, label, is_test in rows if is_test]
    return Texts(
        name=federation.federation,
        classes=tuple(federation.task.classes),
        train=tuple(text for text, _ in train),
        train_labels=tuple(label for _, label in train),
        test=tuple(text for text, _ in test),
        test_labels=tuple(label for _, label in test),
        public=tuple(_public_texts(federation)),
    )


def _rows(federation: Federation, site: Site) -> Rows:
    """Text, label and whether it is a test row, of every record of a site."""
    task = federation.task
    declared = [
        DeclaredColumn(**{**column.model_dump(), "allowed_values": tuple(column.allowed_values)})
        for column in task.columns
    ]
    source = open_source(site.data.source, site.data.uri)
    try:
        found = extract(
            source,
            site.data.sql,
            template_columns=columns_of(task.template),
            label_column=task.label_column,
            split_column=task.split.column,
            test_fraction=task.split.test_fraction,
            classes=task.classes,
            declared=declared,
        )
    finally:
        source.close()
    rows: Rows = []
    try:
        for table in found.rows.ordered():
            texts = render(task.template, table)
            labels, is_test = table.column(LABEL).to_pylist(), table.column(IS_TEST).to_pylist()
            rows += zip(texts, labels, is_test, strict=True)
    finally:
        found.rows.close()
    return rows


def _public_texts(federation: Federation) -> list[str]:
    corpus = federation.encoder.public_corpus
    if corpus is None:
        return []
    content = unpublished_corpus(federation)
    if content is not None:
        return texts_of(content)
    return read_corpus(open_store(federation.exchange_uri), corpus.digest)
