"""A YAML file of rules in a party's private folder: nobody else may write it, no rule stands there twice."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from components.errors import UsageError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Rules = TypeVar("_Rules")


def read_owned(path: Path, validate: Callable[[Any], _Rules]) -> _Rules:
    """What a file of rules says, if only its owner could have written it.

    Args:
        path: the file, which is there.
        validate: makes the rules of the document, or raises pydantic's `ValidationError`.

    Raises:
        UsageError: others may write it, it is not YAML, or it breaks a rule; all are listed.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o022:
        raise UsageError(f"{path} has mode {mode:04o} and may be written by others: 'chmod 600' it")
    try:
        content = path.read_text(encoding="utf-8")
        _require_unique(path, yaml.compose(content, _LOADER))
        # The safe loader, in C where there is one.
        return validate(yaml.load(content, _LOADER))  # noqa: S506
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems)) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UsageError(f"{path} is not YAML") from None


def _require_unique(path: Path, node: yaml.Node | None) -> None:
    """YAML keeps the last of two equal keys without a word; a rule must not vanish that way."""
    if not isinstance(node, yaml.MappingNode):
        return
    names = [key.value for key, _ in node.value]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: {twice[0]} stands there twice: keep one")
