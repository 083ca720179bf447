"""What kfp itself compiles is whole: the rules of a spec's structure are Kubeflow's, not ours alone."""

from __future__ import annotations

import copy

import pytest

from components.errors import UsageError
from tests.pipelines.spec_check.constructs import compile_all, compile_crossing
from tests.pipelines.spec_check.specs import Documents, component, examined, read, tasks


@pytest.fixture(scope="module")
def constructs(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    return read(compile_all(tmp_path_factory.mktemp("constructs") / "all.yaml"))


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    return read(compile_crossing(tmp_path_factory.mktemp("constructs") / "crossing.yaml"))


def rules(documents: Documents) -> set[str]:
    return {each.rule for each in examined(documents)}


def test_nothing_that_kfp_writes_is_taken_for_a_fault(constructs: Documents) -> None:
    """Caching is on, as nothing here turns it off; loops are warned of; no settings ask for a user."""
    assert rules(constructs) == {"caching", "loop-used", "security-context"}


def test_it_holds_what_it_is_to_test(constructs: Documents) -> None:
    text = str(constructs)
    for word in (
        "parameterIterator", "inputParameter", "'raw'", "taskFinalStatus", "valueFromOneof", "triggerPolicy",
        "parameterExpressionSelector", "isArtifactList", "artifactSelectors", "componentInputArtifact",
    ):  # fmt: skip
        assert word in text, word


def test_an_artifact_is_followed_out_of_one_graph_into_another(crossing: Documents) -> None:
    found = [each for each in examined(crossing) if each.rule == "site-artifact-crosses"]
    assert [each.location.json_path for each in found] == [
        "$.root.dag.tasks['at-centre'].inputs.artifacts.text"
    ]
    assert "of site alpha goes to the aggregator or coordinator" in found[0].message


def test_an_artifact_that_is_read_where_it_is_handed_down_is_found_once(crossing: Documents) -> None:
    """In the graph itself nobody can say whose it is; the task that hands it in can."""
    paths = [each.location.json_path for each in examined(crossing) if each.rule.startswith("site-artifact")]
    assert len(paths) == 1


def test_a_component_that_contains_itself_is_found(crossing: Documents) -> None:
    changed = copy.deepcopy(crossing)
    inner = component(changed, "at-site")["dag"]["tasks"]
    inner["again"] = {"componentRef": {"name": "comp-at-site"}, "taskInfo": {"name": "again"}}
    assert "component-recursive" in rules(changed)


def test_a_fault_inside_a_graph_is_found_there(crossing: Documents) -> None:
    changed = copy.deepcopy(crossing)
    tasks_inside = component(changed, "at-centre")["dag"]["tasks"]
    (name,) = tasks_inside
    tasks_inside[name]["inputs"]["artifacts"]["text"] = {"componentInputArtifact": "nope"}
    (found,) = [each for each in examined(changed) if each.rule == "input-missing"]
    assert (
        found.location.json_path == f"$.components['comp-at-centre'].dag.tasks.{name}.inputs.artifacts.text"
    )
    assert tasks(changed)


def test_graphs_without_end_are_refused_and_not_followed(crossing: Documents) -> None:
    """Twelve hundred graphs, each in the last, are too many to follow and no reason to fall over."""
    changed = copy.deepcopy(crossing)
    components = changed[0]["components"]
    for depth in range(1200):
        inside = f"comp-{depth + 1}" if depth < 1199 else "comp-at-site"
        task = {"componentRef": {"name": inside}, "taskInfo": {"name": "in"}}
        components[f"comp-{depth}"] = {
            "dag": {
                "outputs": {
                    "artifacts": {
                        "o": {
                            "artifactSelectors": [
                                {
                                    "producerSubtask": "in",
                                    "outputArtifactKey": "o" if depth < 1199 else "Output",
                                }
                            ]
                        }
                    }
                },
                "tasks": {"in": task},
            },
            "outputDefinitions": {"artifacts": {"o": {"artifactType": {"schemaTitle": "system.Dataset"}}}},
        }
    tasks(changed)["at-site"]["componentRef"]["name"] = "comp-0"
    tasks(changed)["at-centre"]["inputs"]["artifacts"]["text"]["taskOutputArtifact"]["outputArtifactKey"] = (
        "o"
    )
    with pytest.raises(
        UsageError, match=r"^round\.yaml is not a compiled spec: its graphs are nested too deeply$"
    ):
        examined(changed)
