"""Admission policies, evaluated by Google's own implementation of CEL in the way of an API server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

Manifest = dict[str, Any]

GIVEN = ("object", "oldObject", "request", "params")
NAMESPACE = "crosscloud"


@dataclass(frozen=True, kw_only=True)
class Review:
    """What an API server asks about: an object as it would be stored, with all defaults filled in.

    Attributes:
        resource: such as `jobs.batch`, with the subresource behind a slash.
        operation: CREATE, UPDATE, DELETE or CONNECT.
        user: who asks.
        name: of what is asked for, where the address has it.
        new: object of the request; for CONNECT, its options.
        old: what is stored, for UPDATE and DELETE.
    """

    resource: str
    operation: str
    user: str = f"system:serviceaccount:{NAMESPACE}:crosscloud-dispatcher"
    name: str = ""
    new: Manifest | None = None
    old: Manifest | None = None

    def request(self) -> Manifest:
        """The variable `request`; as in an API server, what is empty is not there."""
        path, _, subresource = self.resource.partition("/")
        name, _, group = path.partition(".")
        request: Manifest = {
            "operation": self.operation,
            "namespace": NAMESPACE,
            "userInfo": {"username": self.user},
            "resource": {"group": group, "version": "v1", "resource": name},
        }
        return request | {
            key: value for key, value in (("subResource", subresource), ("name", self.name)) if value
        }


@dataclass(frozen=True, kw_only=True)
class Denial:
    """A validation that did not hold, or that failed: under failurePolicy Fail that denies too."""

    policy: str
    message: str
    error: str = ""

    @property
    def topic(self) -> str:
        """What the validation pins: its message up to the colon."""
        return self.message.partition(":")[0]


@dataclass(frozen=True)
class Policy:
    """One policy, compiled: each variable has the type that its expression has, as in an API server."""

    manifest: Manifest
    variables: dict[str, cel.Expression] = field(default_factory=dict)
    conditions: list[cel.Expression] = field(default_factory=list)
    validations: list[tuple[str, cel.Expression]] = field(default_factory=list)
    messages: list[cel.Expression] = field(default_factory=list)

    @classmethod
    def compiled(cls, manifest: Manifest) -> Policy:
        """Compiles every expression of a policy."""
        policy, spec = cls(manifest), manifest["spec"]
        given = GIVEN if "paramKind" in spec else [name for name in GIVEN if name != "params"]
        types = dict.fromkeys(given, cel.Type.DYN)
        policy.conditions.extend(
            environment(types).compile(each["expression"]) for each in spec.get("matchConditions", [])
        )
        for variable in spec.get("variables", []):
            name = f"variables.{variable['name']}"
            policy.variables[name] = environment(types).compile(variable["expression"])
            types[name] = policy.variables[name].return_type()
        for each in spec["validations"]:
            policy.validations.append((each["message"], environment(types).compile(each["expression"])))
            if "messageExpression" in each:
                policy.messages.append(environment(types).compile(each["messageExpression"]))
        return policy

    @property
    def name(self) -> str:
        """Of the object."""
        name: str = self.manifest["metadata"]["name"]
        return name

    def concerns(self, review: Review) -> bool:
        """Whether its `matchConstraints` match the resource and the operation."""
        path, _, subresource = review.resource.partition("/")
        name, _, group = path.partition(".")
        wanted = {f"{name}/{subresource}" if subresource else name, "*/*"}
        return any(
            {group, "*"} & set(rule["apiGroups"])
            and {review.operation, "*"} & set(rule["operations"])
            and wanted & set(rule["resources"])
            for rule in self.manifest["spec"]["matchConstraints"]["resourceRules"]
        )

    def denials(self, review: Review, pins: Mapping[str, str]) -> Iterator[Denial]:
        """What speaks against a request under these pins."""
        known: dict[str, Any] = {
            "object": review.new,
            "oldObject": review.old,
            "request": review.request(),
            "params": {"data": dict(pins)},
        }
        if not all(holds(condition, known) == "" for condition in self.conditions):
            return
        for name, expression in self.variables.items():
            value = expression.eval(data=known)
            if value.type() != cel.Type.ERROR:
                known[name] = value.plain_value()
        for message, expression in self.validations:
            problem = holds(expression, known)
            if problem:
                yield Denial(policy=self.name, message=message, error=problem if problem != "false" else "")


def environment(types: Mapping[str, cel.Type]) -> cel.Env:
    """Standard CEL and its string functions: what the policies use of what Kubernetes has had since 1.30."""
    return cel.NewEnv(variables=types, extensions=[ext_strings.ExtStrings(2)])


def holds(expression: cel.Expression, known: Mapping[str, Any]) -> str:
    """Empty for true, `false`, or the error."""
    value = expression.eval(data=known)
    if value.type() == cel.Type.ERROR:
        return str(value.value())
    return "" if value.value() is True else "false"


def denials(policies: Sequence[Policy], review: Review, pins: Mapping[str, str]) -> list[Denial]:
    """All that speaks against a request; empty for what is admitted."""
    return [
        denial for policy in policies if policy.concerns(review) for denial in policy.denials(review, pins)
    ]
