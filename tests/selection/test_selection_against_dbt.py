"""Selections on generated projects give what dbt itself gives, as `dbt ls` and as `dbt build` would take them."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from selection_strategies import requests

from dbt_watch.core.manifest.graph import Graph
from dbt_watch.core.selection import select_nodes
from dbt_watch.exceptions import SelectionError

EXAMPLES = os.environ.get("DBT_WATCH_SELECTION_EXAMPLES")


def ours(graph: Graph, request: dict) -> list[str] | None:
    """Return what we select; None when we refuse."""
    try:
        selected = select_nodes(
            graph,
            select=request["select"],
            exclude=request["exclude"],
            selector=request["selector"],
            resource_types=request["resource_types"],
            exclude_resource_types=request["exclude_resource_types"],
            indirect_selection=request["indirect_selection"],
            buildable_only=request["command"] == "build",
        )
    except SelectionError:
        return None
    return sorted(selected)


def with_selectors(graph: Graph, selectors: dict) -> Graph:
    facts = msgspec.structs.replace(graph.facts, selectors=selectors)
    return Graph(facts, graph.nodes.values(), graph.configs)


def test_the_projects_have_what_selections_can_find(dbt):
    kinds = {node.resource_type for node in dbt.graph.nodes.values()}
    assert kinds >= {
        "model",
        "seed",
        "snapshot",
        "test",
        "unit_test",
        "source",
        "exposure",
        "metric",
        "analysis",
    }
    assert kinds >= {"semantic_model", "saved_query", "operation"}
    assert any(node.is_empty for node in dbt.graph.nodes.values())
    assert any(node.materialized == "ephemeral" for node in dbt.graph.nodes.values())
    assert {node.version_status for node in dbt.graph.nodes.values()} >= {
        "latest",
        "old",
        "prerelease",
        "none",
    }
    assert dbt.graph.disabled
    assert {node.package_name for node in dbt.graph.nodes.values()} == {"shop", "toolkit"}


@pytest.mark.timeout(7200)
def test_any_selection_is_dbts(dbt):
    @settings(
        max_examples=int(EXAMPLES or 250),
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def compare(data):
        request = data.draw(requests(dbt.graph))
        theirs = dbt.ask(request)
        graph = with_selectors(dbt.graph, theirs["selectors"]) if "selectors" in theirs else dbt.graph
        if "error" in theirs and request["selectors"] is not None:
            return  # dbt has not written these selectors into a manifest
        assert ours(graph, request) == theirs.get("selected"), theirs.get("error", request)

    compare()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--select", "+orders", "--exclude", "tag:pii"],
        ["--selector", "mixed"],
        ["--selector", "inherits_deep", "--indirect-selection", "buildable"],
        ["--resource-type", "all", "--exclude-resource-type", "test"],
        ["--select", "path:models/marts,test_type:generic", "--indirect-selection", "cautious"],
    ],
    ids=" ".join,
)
def test_the_command_of_dbt_says_the_same_as_its_selector_classes(dbt, arguments):
    """The comparison above asks dbt's classes; this one asks the command itself."""
    words = dict(zip(arguments[::2], arguments[1::2], strict=True))
    request = {
        "command": "ls",
        "select": [words["--select"]] if "--select" in words else None,
        "exclude": [words["--exclude"]] if "--exclude" in words else None,
        "selector": words.get("--selector"),
        "resource_types": [words["--resource-type"]] if "--resource-type" in words else [],
        "exclude_resource_types": [words["--exclude-resource-type"]]
        if "--exclude-resource-type" in words
        else [],
        "indirect_selection": words.get("--indirect-selection", "eager"),
    }
    assert ours(dbt.graph, request) == dbt.ask({"arguments": arguments})["selected"]
