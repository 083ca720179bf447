"""A pipeline of all that kfp can write, to see that the check takes none of it for a fault.

kfp reads the annotations of these functions, so they are not made into strings by a future import.
"""

from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components import images


def write(word: str, text: dsl.Output[dsl.Dataset], times: int = 1) -> str:
    return word


def read(text: dsl.Input[dsl.Dataset], word: str = "none") -> str:
    return word


def read_all(words: list, texts: dsl.Input[list[dsl.Dataset]]) -> str:  # type: ignore[type-arg]
    return str(words)


def names() -> list:  # type: ignore[type-arg]
    return ["a", "b"]


def tidy(status: dsl.PipelineTaskFinalStatus) -> None:
    del status


def _step(function: Any, image: str = images.AGGREGATOR) -> Any:
    return dsl.component(function, base_image=image, install_kfp_package=False)


def compile_all(target: Path) -> Path:
    """Loops, conditions, graphs in graphs, outputs of graphs, collected lists, an exit handler."""
    writes, reads, reads_all = _step(write), _step(read), _step(read_all)
    lists, tidies = _step(names), _step(tidy)

    def inner(word: str) -> dsl.Dataset:
        written = writes(word=word)
        reads(text=written.outputs["text"])
        return written.outputs["text"]

    nested = dsl.pipeline(inner, name="inner")

    def outer(word: str = "w", often: bool = False) -> str:
        handled = tidies()
        with dsl.ExitHandler(handled):
            listed = lists()
            with dsl.ParallelFor(listed.output) as item:
                looped = writes(word=item)
            reads_all(
                words=dsl.Collected(looped.outputs["Output"]), texts=dsl.Collected(looped.outputs["text"])
            )
        with dsl.ParallelFor([{"a": "x"}, {"a": "y"}]) as pair:
            writes(word=pair.a)
        made = nested(word=word)
        with dsl.If(often == True):  # noqa: E712  (kfp reads the comparison)
            one = reads(text=made.output, word="often")
        with dsl.Else():
            other = reads(text=made.output)
        chosen = dsl.OneOf(one.outputs["Output"], other.outputs["Output"])
        reads(text=made.output, word=chosen)
        return chosen  # type: ignore[no-any-return]

    compiler.Compiler().compile(dsl.pipeline(outer, name="constructs"), str(target))
    return target


def compile_crossing(target: Path) -> Path:
    """A site's artifact that leaves its graph, and is read in another graph by the aggregator."""
    writes = _step(site_writes, images.SITE)
    reads = _step(read)

    def at_site(site_text: str = "") -> dsl.Dataset:
        return writes(site="alpha", word=site_text, deadline_s=10).outputs["text"]

    def at_centre(text: dsl.Input[dsl.Dataset]) -> None:
        reads(text=text)

    site, centre = dsl.pipeline(at_site, name="at-site"), dsl.pipeline(at_centre, name="at-centre")

    def crossing(word: str = "w") -> None:
        centre(text=site(site_text=word).output)

    compiler.Compiler().compile(dsl.pipeline(crossing, name="crossing"), str(target))
    return target


def site_writes(site: str, word: str, deadline_s: int, text: dsl.Output[dsl.Dataset]) -> str:
    return word
