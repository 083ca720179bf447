"""Who may do what, and what admission holds Jobs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kubernetes_validate

from tests.jobs_api.answers import RefusedError
from tests.jobs_api.objects import CONFIG_MAPS, JOBS, PODS

KUBERNETES = "1.31"
DISPATCHER = "token-of-the-dispatcher"
TEMPLATE = "crosscloud-step"

Right = tuple[str, str]
"""Verb and resource; a resource may have `/NAME` for one object alone."""
ROLE: frozenset[Right] = frozenset(
    {
        *((verb, JOBS) for verb in ("create", "get", "list", "watch", "delete")),
        ("get", f"{CONFIG_MAPS}/{TEMPLATE}"),
        ("list", PODS),
    }
)
"""What the site's Role gives its dispatcher."""


@dataclass
class Access:
    """Tokens and their rights, quota and policy; tests change them while the server runs."""

    tokens: dict[str, set[Right]] = field(default_factory=lambda: {DISPATCHER: set(ROLE)})
    jobs_quota: int | None = None
    """How many Jobs a namespace may have; None for any number."""
    policy: Callable[[Mapping[str, Any]], str] | None = None
    """Gives a message for a Job that the site's ValidatingAdmissionPolicy denies, else nothing."""

    def check(self, token: str, verb: str, resource: str, namespace: str, name: str) -> None:
        """Refuses an unknown token, and what a known one may not do."""
        rights = self.tokens.get(token)
        if rights is None:
            raise RefusedError(401, "Unauthorized")
        if (verb, resource) in rights or (verb, f"{resource}/{name}") in rights:
            return
        plural, _, group = resource.partition(".")
        user = f"system:serviceaccount:{namespace}:crosscloud-dispatcher"
        named = f' "{name}"' if name else ""
        raise RefusedError(
            403,
            f'{resource}{named} is forbidden: User "{user}" cannot {verb} resource "{plural}" '
            f'in API group "{group}" in the namespace "{namespace}"',
        )

    def admit(self, job: Mapping[str, Any], present: int) -> None:
        """Holds a new Job to schema, policy and quota, in the API server's order and words."""
        name = job.get("metadata", {}).get("name", "")
        try:
            kubernetes_validate.validate(job, KUBERNETES, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.InvalidSchemaError) as error:
            raise RefusedError(400, f"strict decoding error: {error.message}") from None
        pod = job["spec"]["template"]["spec"]
        if pod.get("restartPolicy") not in {"Never", "OnFailure"}:
            raise RefusedError(
                422,
                f'Job.batch "{name}" is invalid: spec.template.spec.restartPolicy: Required value: valid '
                'values: "OnFailure", "Never"',
            )
        denied = self.policy(job) if self.policy else ""
        if denied:
            raise RefusedError(
                422,
                f"{JOBS} \"{name}\" is forbidden: ValidatingAdmissionPolicy 'crosscloud-step' with binding "
                f"'crosscloud-step' denied request: {denied}",
            )
        if self.jobs_quota is not None and present >= self.jobs_quota:
            raise RefusedError(
                403,
                f'{JOBS} "{name}" is forbidden: exceeded quota: crosscloud, requested: count/{JOBS}=1, '
                f"used: count/{JOBS}={present}, limited: count/{JOBS}={self.jobs_quota}",
            )
