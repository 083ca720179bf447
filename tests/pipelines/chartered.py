"""A federation whose charter all parties have signed, to be changed and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.agreement.charter import Charter
from pipelines.federation import Federation, load_federation
from tests.conftest import SITES, SmallFederation

KEYS = "small/keys"
SIGNERS = (*SITES, "key-holder")


@dataclass(frozen=True, kw_only=True)
class Chartered:
    """A federation whose charter all have signed."""

    made: SmallFederation
    charter: Charter

    @property
    def federation(self) -> Federation:
        """As its file says now."""
        return load_federation(self.made.path)

    def changed(self, *path: Any, to: Any) -> Federation:
        """The federation after a change of its file."""
        place: Any = self.made.document
        for key in path[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        place[path[-1]] = to
        return load_federation(self.made.save())

    def policy(self, owner: str) -> Path:
        return self.made.home / KEYS / owner / "policy.yaml"


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and its mode."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file()
    }
