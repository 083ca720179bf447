"""The `prepare_corpus` step."""

from typing import NamedTuple

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPARISON, install_kfp_package=False, packages_to_install=[])
def prepare_corpus(
    data_uri: str,
    encoder: str,
    revision: str,
    digest: str,
    max_length: int,
    dimensions: int,
    quick: bool,
    device: str,
    store_uri: str,
    corpus: dsl.Output[dsl.Dataset],
) -> NamedTuple("Prepared", [("corpus_digest", str)]):
    """Makes of a data set that may lie in one place what a comparison learns from.

    Args:
        data_uri: folder with train.csv and test.csv.
        encoder: which language model.
        revision: of a model on the hub.
        digest: SHA-256 of its weights, empty to accept any.
        max_length: tokens a text is cut to.
        dimensions: width of its hidden state.
        quick: whether a part of the rows is enough.
        device: auto, cpu or cuda.
        store_uri: store of the comparison.
        corpus: features with and without the language model, as one file.
    """
    from components.data_processing.feature_augmentation.encoder import EncoderSpec
    from components.evaluation.corpus_preparation import step
    from components.execution import central_step

    spec = EncoderSpec(
        name=encoder, revision=revision, digest=digest, max_length=max_length, dimensions=dimensions
    )
    outcome = central_step.run(
        lambda: step.write_corpus(data_uri, encoder=spec, quick=quick, device=device, path=corpus.path),
        name="prepare_corpus",
        exchange_uri=store_uri,
    )
    corpus.metadata.update(outcome.manifest)
    return (outcome.manifest["digest"],)
