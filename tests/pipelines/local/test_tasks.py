"""Tasks of specs that kfp's own compiler has written; it cannot read postponed annotations."""

from pathlib import Path

from kfp import compiler, dsl

from pipelines.local.tasks import Task, read_tasks


@dsl.component(base_image="python:3.11", install_kfp_package=False, packages_to_install=[])  # type: ignore[untyped-decorator]
def echo(text: str) -> str:
    return text


def compiled(pipeline: object, folder: Path) -> str:
    path = folder / "spec.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return path.read_text(encoding="utf-8")


def test_every_task_of_one_component_has_its_own_title(tmp_path: Path) -> None:
    @dsl.pipeline(name="titles")  # type: ignore[untyped-decorator]
    def pipeline() -> None:
        for site in ("gcp", "aws"):
            echo(text=site).set_display_name(f"train · {site}")
        echo(text="plain")

    assert read_tasks(compiled(pipeline, tmp_path)) == {
        "echo": Task(name="echo", title="train · gcp"),
        "echo-2": Task(name="echo-2", title="train · aws"),
        "echo-3": Task(name="echo-3", title="echo-3"),
    }


def test_titles_that_are_shared_are_told_apart(tmp_path: Path) -> None:
    @dsl.pipeline(name="shared")  # type: ignore[untyped-decorator]
    def pipeline() -> None:
        for text in ("a", "b"):
            echo(text=text).set_display_name("seal")

    titles = {task.title for task in read_tasks(compiled(pipeline, tmp_path)).values()}
    assert titles == {"seal (echo)", "seal (echo-2)"}


def test_tasks_inside_other_tasks_are_found(tmp_path: Path) -> None:
    @dsl.pipeline(name="inner")  # type: ignore[untyped-decorator]
    def inner(text: str) -> None:
        echo(text=text).set_display_name("inside")

    @dsl.pipeline(name="outer")  # type: ignore[untyped-decorator]
    def outer() -> None:
        echo(text="a").set_display_name("outside")
        inner(text="b")

    titles = {task.title for task in read_tasks(compiled(outer, tmp_path)).values()}
    assert {"outside", "inside"} <= titles
