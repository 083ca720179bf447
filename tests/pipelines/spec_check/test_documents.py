"""Files that are no compiled spec are told in one line; lines are those of the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.errors import UsageError
from pipelines.spec_check.documents import LARGEST_FILE, parse_documents, read_documents
from pipelines.spec_check.examination import examine, examine_file
from pipelines.spec_check.findings import json_path, one_line
from tests.pipelines.spec_check.specs import Documents, written

MINIMAL = """\
pipelineInfo: {name: p}
root:
  dag:
    tasks:
      go:
        componentRef: {name: comp-go}
        taskInfo: {name: go}
components:
  comp-go:
    executorLabel: exec-go
deploymentSpec:
  executors:
    exec-go:
      container:
        image: python
"""


def refused(content: bytes) -> str:
    with pytest.raises(UsageError) as raised:
        examine(parse_documents(content, name="a.yaml"), file="a.yaml")
    return str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it holds 0 pipelines and 0 platforms, not one pipeline and at most one platform"),
        (b"\n---\n...\n", "it holds 0 pipelines and 0 platforms"),
        (
            b"a: 1",
            "document 1 has neither of components, deploymentSpec, pipelineInfo, root, schemaVersion nor",
        ),
        (b"just words", "document 1 is no mapping"),
        (b"- 1", "document 1 is no mapping"),
        (b"root: {}\n---\nroot: {}", "it holds 2 pipelines"),
        (b"root: {}\n---\nplatforms: {}\n---\nplatforms: {}", "it holds 1 pipelines and 2 platforms"),
        (b"root: {1: 2}", "the key in line 1 is no word"),
        (b"root: &a {b: *a}", "an alias contains itself"),
        (b"root: " + b"[" * 5000 + b"]" * 5000, "it is nested too deeply"),
        (b"root: [" + b"\na: 1", "not YAML"),
        (b"root: \xff", "not YAML"),
        (b"root: !!python/object:os.system {}", "not YAML: could not determine a constructor"),
        (b"root: 2024-99-99", "not YAML: month must be in 1..12"),
        (b"root: " + b"9" * 5000, "not YAML"),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(content: bytes, said: str) -> None:
    told = refused(content)
    assert told.startswith(("a.yaml is not a compiled spec: ", "a.yaml is not YAML: "))
    assert said in told
    assert told.isprintable()


def test_aliases_that_grow_without_end_are_refused() -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 2,000,000 values" in refused(("root: {}\n" + "\n".join(layers)).encode())


def test_a_file_that_is_not_there_and_one_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.yaml cannot be read: No such file or directory$"):
        read_documents(tmp_path / "no.yaml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_documents(tmp_path)
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(UsageError, match="is larger than"):
        read_documents(tmp_path / "large.yaml")


def test_findings_stand_in_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL)
    found = {(each.rule, each.location.line, each.location.json_path) for each in examine_file(path)}
    image = "$.deploymentSpec.executors['exec-go'].container.image"
    last = MINIMAL.count("\n")
    assert {("image-foreign", last, image), ("image-unpinned", last, image)} <= found
    assert {rule for rule, _, _ in found} == {"image-foreign", "image-unpinned", "security-context"}


def test_a_finding_in_the_second_document_has_the_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    settings = "platforms:\n  kubernetes:\n    deploymentSpec:\n      executors:\n        exec-nope: {}\n"
    path.write_text(f"{MINIMAL}---\n{settings}")
    (found,) = [each for each in examine_file(path) if each.rule == "platform-executor-missing"]
    assert found.location.document == 2
    assert path.read_text().splitlines()[found.location.line - 1].strip() == "exec-nope: {}"


def test_a_key_that_stands_twice_is_found_where_it_stands_again() -> None:
    content = MINIMAL.replace("        image: python\n", "        image: python\n        image: other\n")
    found = examine(parse_documents(content.encode(), name="a.yaml"), file="a.yaml")
    (twice,) = [each for each in found if each.rule == "duplicate-key"]
    assert content.splitlines()[twice.location.line - 1].strip() == "image: other"
    assert twice.message == "'image' stands twice here: keep one"


def test_json_is_read_as_it_is(a_start: Documents) -> None:
    assert json.loads(written(a_start[:1])) == parse_documents(written(a_start[:1]), name="a.json")[0].value


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ((), "$"),
        (("root", "dag", "tasks", "seal-2"), "$.root.dag.tasks['seal-2']"),
        (("args", 3), "$.args[3]"),
        (("it's", "a\\b"), "$['it\\'s']['a\\\\b']"),
        (("two\nlines",), "$['two\\nlines']"),
    ],
)
def test_json_paths(path: tuple[str | int, ...], told: str) -> None:
    assert json_path(path) == told


def test_nothing_in_a_message_drives_a_terminal() -> None:
    assert one_line("a\x1b[31m\r\nb\u202e · ε") == "a\\x1b[31m\\r\\nb\\u202e · ε"
