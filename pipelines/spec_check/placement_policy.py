"""Where steps run: each site's on its own nodes, within a deadline, not as root."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from components.errors import UsageError
from components.site_steps.job_terms import MOUNTED_CLUSTERS, JobTerms
from pipelines.spec_check.findings import Finding
from pipelines.spec_check.references import listed
from pipelines.spec_check.spec import EXECUTORS, PLATFORM_EXECUTORS, Message, Spec, located
from pipelines.spec_check.steps import Step


def check_placement(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Of every step, as far as the spec alone says it."""
    for step in steps:
        if step.is_dispatcher:
            yield from _job(spec, step)
            yield from _deadline(spec, step)
        if not step.is_sites:
            continue
        if not step.site:
            text = f"{step.title!r} does not say whose it is: give its input 'site' a constant"
            yield spec.finding("site-unnamed", (*step.path, "inputs", "parameters"), text)
        if not _nodes(step.settings):
            text = f"{step.title!r} may run on any node: give {step.party} a placement.node_selector"
            yield spec.platform_finding("placement-missing", step.label, text)
        yield from _deadline(spec, step)
    yield from _shared(spec, steps)
    yield from _volumes(spec, steps)
    yield from _users(spec, steps)


def _job(spec: Spec, step: Step) -> Iterator[Finding]:
    """A dispatcher must know whose Job it makes, and on what terms."""
    path = (*step.path, "inputs", "parameters")
    if not step.site:
        text = f"{step.title!r} does not say whose it is: give its input 'site' a constant"
        yield spec.finding("site-unnamed", path, text)
    try:
        terms = JobTerms.from_text(str(step.constant("job")))
    except UsageError as error:
        yield spec.finding("job-terms", (*path, "job"), f"{step.title!r}: {error}")
        return
    mounts = step.settings.secret_as_volume if step.settings is not None else ()
    opened = any(PurePosixPath(mount.mount_path).is_relative_to(MOUNTED_CLUSTERS) for mount in mounts)
    if terms.door == "dispatcher" and not opened:
        text = (
            f"{step.title!r} creates Jobs and nothing opens the cluster to it: give "
            f"{step.site or 'the site'} a placement.kubeconfig_secret, or door agent"
        )
        yield spec.platform_finding("job-terms", step.label, text)


def _nodes(settings: Message | None) -> str:
    """What the nodes of a step must have, in one spelling; empty for nothing, or for what a run chooses."""
    if settings is None:
        return ""
    asked: list[object] = []
    if settings.node_selector.labels:
        asked.append(sorted(settings.node_selector.labels.items()))
    chosen = settings.node_selector.node_selector_json
    if chosen.WhichOneof("kind") == "runtime_value":
        asked.append(chosen.SerializeToString(deterministic=True).hex())
    for term in settings.node_affinity:
        if not term.HasField("weight") and (term.match_expressions or term.match_fields):
            asked.append(term.SerializeToString(deterministic=True).hex())
    return json.dumps(asked) if asked else ""


def _deadline(spec: Spec, step: Step) -> Iterator[Finding]:
    given = step.constant("deadline_s")
    own = given if isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0 else None
    pods = step.settings.active_deadline_seconds if step.settings is not None else 0
    if own is None:
        text = (
            f"{step.title!r} has no deadline of its own, so the run waits for it: give deadline_s a constant"
        )
        yield spec.finding("site-deadline", (*step.path, "inputs", "parameters"), text)
    elif pods and pods <= own:
        text = (
            f"the pod of {step.title!r} is killed after {pods} s, which fails the run, and the step "
            f"ends itself after {own:g} s only: give the pod more"
        )
        yield spec.platform_finding("site-deadline", step.label, text, "activeDeadlineSeconds")


def _shared(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Steps on nodes that mostly another party's steps run on."""
    on: dict[str, Counter[str]] = defaultdict(Counter)
    for step in steps:
        on[_nodes(step.settings)][step.party] += 1
    for step in steps:
        nodes = _nodes(step.settings)
        parties = on[nodes]
        mostly = max(sorted(parties), key=parties.__getitem__)
        if nodes and mostly != step.party:
            text = f"{step.title!r} is of {step.party} and runs on the nodes of {mostly}: give each its own"
            yield spec.platform_finding("placement-shared", step.label, text)


def _volumes(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    """Volumes that a site shares with anybody: what it writes there leaves it."""
    if spec.has_workspace and spec.platform_document is not None:
        text = "the pipeline has a workspace, one volume that every step mounts: take it out"
        path = (*PLATFORM_EXECUTORS[:2], "pipelineConfig", "workspace")
        yield located(spec.file, spec.platform_document, "volume-shared", path, text)
    mounting: dict[str, set[str]] = defaultdict(set)
    mounts: list[tuple[Step, int, str]] = []
    for step in steps:
        for index, mount in enumerate(step.settings.pvc_mount if step.settings is not None else ()):
            named = _volume_name(mount)
            mounting[named].add(step.party)
            mounts.append((step, index, named))
    for step, index, named in mounts:
        others = sorted(mounting[named] - {step.party})
        if others:
            text = f"{step.title!r} mounts a volume that {', '.join(others[:3])} mounts too: one owner each"
            yield spec.platform_finding("volume-shared", step.label, text, "pvcMount", index)


def _volume_name(mount: Message) -> str:
    """What tells one volume from another, whichever way the spec writes it."""
    fixed = str(mount.constant or mount.pvc_name_parameter.runtime_value.constant.string_value)
    if fixed:
        return fixed
    open_name = type(mount)()
    open_name.CopyFrom(mount)
    open_name.ClearField("mount_path")
    open_name.ClearField("sub_path")
    return f"chosen by the run: {open_name.SerializeToString(deterministic=True).hex()}"


def _users(spec: Spec, steps: list[Step]) -> Iterator[Finding]:
    open_to_root = []
    for label in sorted({step.label for step in steps}):
        settings = spec.platform.get(label)
        context = settings.security_context if settings is not None else None
        if context is not None and context.HasField("run_as_user") and context.run_as_user == 0:
            text = f"{label!r} runs as user 0: set_security_context gives it another"
            yield spec.platform_finding("root-user", label, text, "securityContext")
        elif context is None or not context.run_as_non_root:
            open_to_root.append(label)
    if open_to_root:
        text = (
            f"{len(open_to_root)} of {len({step.label for step in steps})} executors may run as root: "
            f"{listed(open_to_root)}; set_security_context(run_as_non_root=True) keeps them from it"
        )
        if spec.platform_document is None:
            yield spec.finding("security-context", EXECUTORS, text)
        else:
            document = spec.platform_document
            yield located(spec.file, document, "security-context", PLATFORM_EXECUTORS, text)
