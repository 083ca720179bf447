"""What the folder of each image says of it: Dockerfile, requirements, role.json; and the scripts."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from components import images

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "images"
ROLES = {
    "site": images.SITE,
    "aggregator": images.AGGREGATOR,
    "key-holder": images.KEY_HOLDER,
    "comparison": images.COMPARISON,
}


def script(name: str) -> ModuleType:
    """A script of the folder, as a module; it is no package."""
    spec = importlib.util.spec_from_file_location(f"images_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dockerfile(role: str) -> str:
    """Its text, with continued lines joined."""
    text = (FOLDER / role / "Dockerfile").read_text(encoding="utf-8")
    return re.sub(r"\\\n\s*", " ", text)


def instructions(role: str, name: str) -> list[str]:
    """The arguments of every instruction of that name, in order."""
    return re.findall(rf"^{name} (.+)$", dockerfile(role), re.MULTILINE)


def requirements(role: str) -> list[str]:
    """Names of packages."""
    return (FOLDER / role / "requirements.txt").read_text(encoding="utf-8").split()


def role_file(role: str) -> dict[str, Any]:
    """What the smoke command and the build are told."""
    document: dict[str, Any] = json.loads((FOLDER / role / "role.json").read_text(encoding="utf-8"))
    return document
