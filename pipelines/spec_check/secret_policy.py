"""Secrets are files of their owner's steps: never values of a spec, never in the environment."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from components.agreement.charter import COORDINATOR, KEY_HOLDER
from components.agreement.private_keys import MOUNTED_KEYS
from components.site_steps.job_terms import MOUNTED_CLUSTERS
from pipelines.spec_check.documents import Document
from pipelines.spec_check.findings import Finding, Path
from pipelines.spec_check.secret_forms import secret_form
from pipelines.spec_check.spec import EXECUTORS, Message, Spec, located
from pipelines.spec_check.steps import CENTRE, Step

_SECRET_NAME = re.compile(
    r"(?i)secret|passw|passphrase|token(?!iz|s)|credential|api_?key|access_?key|private_?key|account_?key|(?:^|_)key$"
)
_A_PATH = re.compile(r"(?:/[\w.-]+)+")
"""What a variable may hold that says where a mounted secret is."""


def check_secrets(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Of the whole spec; a message never holds the value."""
    for label, executor in sorted(spec.executors.items()):
        for index, variable in enumerate(executor.container.env):
            named = _SECRET_NAME.search(variable.name)
            if named and variable.value and not _A_PATH.fullmatch(variable.value):
                path = (*EXECUTORS, label, "container", "env", index)
                text = f"{variable.name!r} stands in the environment with a value: mount a secret as a file"
                yield spec.finding("secret-value", path, text)
    for document in filter(None, (spec.document, spec.platform_document)):
        for path, value in _texts(document):
            form = secret_form(value)
            if form:
                text = f"this looks like {form}, for all who read the spec: revoke it and mount a secret"
                yield located(spec.file, document, "secret-value", path, text)
    yield from _mounts(spec)
    yield from _owners(spec, steps)
    yield from _clusters(spec, steps)


def _mounts(spec: Spec) -> Iterator[Finding]:
    for label, settings in sorted(spec.platform.items()):
        for index, each in enumerate(settings.secret_as_env):
            text = f"secret {_secret_name(each)!r} is in the environment of {label!r}: mount it as a volume"
            yield spec.platform_finding("secret-env", label, text, "secretAsEnv", index)
        for index, each in enumerate(settings.secret_as_volume):
            kind = each.secret_name_parameter.WhichOneof("kind")
            fixed = kind in {None, "runtime_value"} and _secret_name(each) and "{{" not in _secret_name(each)
            if not fixed:
                text = f"which secret {label!r} mounts is left to the run: name it in the federation file"
                yield spec.platform_finding("secret-chosen", label, text, "secretAsVolume", index)


def _secret_name(mount: Message) -> str:
    return str(mount.secret_name_parameter.runtime_value.constant.string_value or mount.secret_name)


def _owners(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Keys below the folder of keys are of the step's own party, and no secret is of two."""
    parties: dict[str, set[str]] = defaultdict(set)
    for step in steps:
        for index, mount in enumerate(step.settings.secret_as_volume if step.settings else ()):
            parties[_secret_name(mount)].add(step.party)
            place = PurePosixPath(mount.mount_path)
            own = {CENTRE: COORDINATOR, KEY_HOLDER: KEY_HOLDER}.get(step.party, step.site)
            of_keys = place.is_relative_to(MOUNTED_KEYS) or ".." in place.parts
            if of_keys and place != PurePosixPath(MOUNTED_KEYS / (own or "..")):
                text = (
                    f"{step.title!r} is of {step.party} and mounts a secret at {mount.mount_path!r}: "
                    f"its own keys lie in {MOUNTED_KEYS}/{own or 'OWNER'}"
                )
                yield spec.platform_finding("secret-owner", step.label, text, "secretAsVolume", index)
    for step in steps:
        for index, mount in enumerate(step.settings.secret_as_volume if step.settings else ()):
            others = sorted(parties[_secret_name(mount)] - {step.party})
            if others and _secret_name(mount):
                text = (
                    f"{step.title!r} mounts a secret that {', '.join(others[:3])} mounts too: one owner each"
                )
                yield spec.platform_finding("secret-owner", step.label, text, "secretAsVolume", index)


def _clusters(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """What opens a site's cluster is in that site's dispatchers, and in nothing else."""
    opens: dict[str, set[str]] = defaultdict(set)
    for step in steps:
        for index, mount in enumerate(step.settings.secret_as_volume if step.settings else ()):
            place = PurePosixPath(mount.mount_path)
            if not place.is_relative_to(MOUNTED_CLUSTERS):
                continue
            owner = step.site if step.is_dispatcher else ""
            opens[_secret_name(mount)].add(owner)
            if not owner or place != PurePosixPath(MOUNTED_CLUSTERS / owner):
                text = (
                    f"{step.title!r} mounts what opens a cluster at {mount.mount_path!r}: only a site's "
                    f"dispatchers do, at {MOUNTED_CLUSTERS}/SITE"
                )
                yield spec.platform_finding("secret-owner", step.label, text, "secretAsVolume", index)
            elif len(opens[_secret_name(mount)]) > 1:
                text = f"{step.title!r} mounts a kubeconfig that opens another site's cluster too: one each"
                yield spec.platform_finding("secret-owner", step.label, text, "secretAsVolume", index)


def _texts(document: Document) -> Iterator[tuple[Path, str]]:
    """Every string of a document, keys included, with its path."""
    waiting: list[tuple[Path, object]] = [((), document.value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            waiting += [((*path, key), each) for key, value_of in value.items() for each in (key, value_of)]
        elif isinstance(value, list):
            waiting += [((*path, index), each) for index, each in enumerate(value)]
