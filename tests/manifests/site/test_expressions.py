"""The policies are what an API server takes: forms, limits, and the rules of CEL that only Kubernetes has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from cel_expr_python import cel

from tests.manifests.site.admission import GIVEN, Manifest, Policy, environment
from tests.manifests.site.clusters import Cluster

QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")
LOOP_VARIABLES = ("name", "line", "label", "container")
# Of the standard, and of the string functions that Kubernetes has had since 1.0.
FUNCTIONS = {
    *("all", "contains", "dyn", "endsWith", "filter", "has", "int", "map", "matches", "size", "string"),
    *("join", "split", "startsWith", "substring"),
}


def expressions(manifest: Manifest) -> list[str]:
    """Every expression of a policy."""
    spec = manifest["spec"]
    parts = [*spec.get("matchConditions", []), *spec.get("variables", []), *spec["validations"]]
    messages = [each["messageExpression"] for each in spec["validations"] if "messageExpression" in each]
    return [part["expression"] for part in parts] + messages


def split(text: str, separator: str) -> list[str]:
    """Text between separators that stand in no quotes and no brackets."""
    parts, depth, quoted, start = [], 0, False, 0
    for number, letter in enumerate(text):
        if letter == "'" and text[number - 1 : number] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += (letter in "([{") - (letter in ")]}")
            if letter == separator and depth == 0:
                parts.append(text[start:number])
                start = number + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def literals(expression: str) -> Iterator[list[str]]:
    """Of every list the elements, of every map the keys and then the values."""
    blank = QUOTED.sub(lambda quoted: "'" + "." * (len(quoted[0]) - 2) + "'", expression)
    for opened in re.finditer(r"[\[{]", blank):
        if opened[0] == "[" and re.search(r"[\w\])]$", blank[: opened.start()]):
            continue  # an index
        depth, end = 0, opened.start()
        for end in range(opened.start(), len(blank)):
            depth += (blank[end] in "([{") - (blank[end] in ")]}")
            if depth == 0:
                break
        entries = split(expression[opened.end() : end], ",")
        if opened[0] == "[":
            yield entries
        else:
            pairs = [split(entry, ":") for entry in entries]
            yield [pair[0] for pair in pairs]
            yield [":".join(pair[1:]) for pair in pairs]


@pytest.fixture
def policies(eks: Cluster) -> list[Policy]:
    return eks.policies


def test_a_literal_holds_values_of_one_type(policies: list[Policy]) -> None:
    """As cel.HomogeneousAggregateLiterals asks, which Kubernetes compiles with and CEL by itself does not."""
    checked = 0
    for policy in policies:
        types = dict.fromkeys((*GIVEN, *LOOP_VARIABLES), cel.Type.DYN)
        types |= {name: compiled.return_type() for name, compiled in policy.variables.items()}
        at_hand = environment(types)
        for expression in expressions(policy.manifest):
            for values in literals(expression):
                found = {at_hand.compile(value).return_type().name() for value in values}
                assert len(found) <= 1, f"{policy.name}: {values} are {found}"
                checked += 1
    assert checked > 60


def test_the_check_of_literals_sees_what_kubernetes_refuses() -> None:
    assert list(literals("{'a': 1, 'b': [x[0], 'c,d']}")) == [
        ["'a'", "'b'"],
        ["1", "[x[0], 'c,d']"],
        ["x[0]", "'c,d'"],
    ]


def test_only_functions_are_called_that_every_supported_cluster_has(policies: list[Policy]) -> None:
    called = {
        name
        for policy in policies
        for expression in expressions(policy.manifest)
        for name in re.findall(r"(\w+)\(", QUOTED.sub("''", expression))
    }
    assert called - {"in"} == FUNCTIONS


def test_what_is_decided_is_known_to_be_true_or_false_before_it_is_asked(policies: list[Policy]) -> None:
    """An API server takes no policy with an expression whose type it cannot tell."""
    for policy in policies:
        decisions = [*policy.conditions, *(expression for _, expression in policy.validations)]
        assert {expression.return_type().name() for expression in decisions} == {"BOOL"}
        assert {expression.return_type().name() for expression in policy.messages} <= {"STRING"}


def test_policies_fail_closed_and_say_why(policies: list[Policy]) -> None:
    for policy in policies:
        spec = policy.manifest["spec"]
        assert spec["failurePolicy"] == "Fail"
        assert spec["matchConstraints"]["matchPolicy"] == "Equivalent"
        for each in spec["validations"]:
            assert each["reason"] == "Forbidden"
            topic, colon, rule = each["message"].partition(": ")
            assert all((topic, colon, rule))
            assert "\n" not in each["message"]


def test_every_policy_is_bound_with_the_pins_of_the_namespace(cluster: Cluster) -> None:
    kind = "ValidatingAdmissionPolicyBinding"
    bindings = {each["spec"]["policyName"]: each["spec"] for each in cluster.objects if each["kind"] == kind}
    assert bindings.keys() == {policy.name for policy in cluster.policies}
    namespace = next(each for each in cluster.objects if each["kind"] == "Namespace")
    for policy in cluster.policies:
        bound = bindings[policy.name]
        assert bound["validationActions"] == ["Deny", "Audit"]
        wanted = bound["matchResources"]["namespaceSelector"]["matchLabels"]
        assert wanted.items() <= namespace["metadata"]["labels"].items()
        assert bound["matchResources"].keys() == {"namespaceSelector"}
        pins = {"name": "crosscloud-pins", "parameterNotFoundAction": "Deny"}
        assert bound.get("paramRef") == (pins if "paramKind" in policy.manifest["spec"] else None)


def test_the_message_names_the_field_that_is_not_known(eks: Cluster) -> None:
    job = eks.job()
    job["spec"]["template"]["spec"]["newField"] = True
    policy = next(policy for policy in eks.policies if policy.name == "crosscloud-job-pods")
    known = {"object": job, "variables.unknownFields": ["newField"]}
    assert policy.messages[0].eval(data=known).value() == "pod fields: the policy does not know newField"
