"""The YAML of a spec: its values, and the lines they stand in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import UsageError
from pipelines.spec_check import findings

LARGEST_FILE = 32 << 20
"""Bytes; a round of a hundred sites has 5 MB."""
MOST_NODES = 2_000_000
"""Of a document with its aliases written out."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of a stream."""

    number: int
    """From 1."""
    value: dict[str, Any]
    node: yaml.MappingNode

    def line(self, path: findings.Path) -> int:
        """Line from 1 of the value at a path, or of the nearest that is there above it."""
        node: yaml.Node = self.node
        line = node.start_mark.line
        for step in path:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == step]
                if not found:
                    break
                key, node = found[-1]
                line = key.start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
            else:
                break
        return line + 1

    def duplicates(self) -> Iterator[tuple[findings.Path, str, int]]:
        """Path of each mapping that holds a key twice, the key, and the line of the second."""
        seen: set[int] = set()
        waiting: list[tuple[findings.Path, yaml.Node]] = [((), self.node)]
        while waiting:
            path, node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                keys: set[str] = set()
                for key, value in node.value:
                    if key.value in keys:
                        yield path, key.value, key.start_mark.line + 1
                    keys.add(key.value)
                    waiting.append(((*path, key.value), value))
            elif isinstance(node, yaml.SequenceNode):
                waiting += [((*path, index), value) for index, value in enumerate(node.value)]


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that are not empty.

    Raises:
        UsageError: there is no such file, or it is not YAML of mappings with words as keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{path} is larger than {LARGEST_FILE:,} bytes: name a compiled spec")
    return parse_documents(content, name=str(path))


def parse_documents(content: bytes, *, name: str) -> list[Document]:
    """As `read_documents`, of what a file holds.

    Raises:
        UsageError: as there.
    """
    loader = yaml.CSafeLoader(content)
    found = []
    try:
        number = 0
        while loader.check_node():
            number += 1
            node = loader.get_node()
            if isinstance(node, yaml.ScalarNode) and not node.value:
                continue
            if not isinstance(node, yaml.MappingNode):
                raise UsageError(f"{name} is not a compiled spec: document {number} is no mapping")
            _bound(node, {}, name)
            value = loader.construct_document(node)
            found.append(Document(number=number, value=value, node=node))
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{name} is not YAML: {error.problem}{where}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UsageError(f"{name} is not YAML: {findings.one_line(str(error))[:200]}") from None
    except RecursionError:
        raise UsageError(f"{name} is not a compiled spec: it is nested too deeply") from None
    finally:
        loader.dispose()
    return found


def _bound(node: yaml.Node, sizes: dict[int, int], name: str) -> int:
    """Number of nodes below one, aliases written out.

    Raises:
        UsageError: too many, a node that contains itself, or a key that is not a word.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise UsageError(f"{name} is not a compiled spec: an alias contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0
    below: list[yaml.Node] = []
    for each in node.value:
        if isinstance(node, yaml.MappingNode):
            key, value = each
            if key.tag != "tag:yaml.org,2002:str":
                raise UsageError(
                    f"{name} is not a compiled spec: the key in line {key.start_mark.line + 1} is no word"
                )
            below.append(value)
        else:
            below.append(each)
    sizes[id(node)] = size = 1 + sum(_bound(each, sizes, name) for each in below)
    if size > MOST_NODES:
        raise UsageError(
            f"{name} is not a compiled spec: its aliases come to more than {MOST_NODES:,} values"
        )
    return size
