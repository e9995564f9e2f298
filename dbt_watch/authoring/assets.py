"""
The assets of a project, from its options, and the same assets for scheduling another DAG.

`authoring.project_factory` uses this while a DAG is parsed; `dbt_asset` is for DAG files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, overload

from airflow.sdk import Asset, AssetAlias

from dbt_watch.authoring.options import SELECTED
from dbt_watch.core.assets import TrackedAssets, alias_name, asset_uri, check_namespace, has_asset
from dbt_watch.core.command import criteria
from dbt_watch.core.labels import label_of
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.selection import Written, select_nodes
from dbt_watch.core.selection.near import alternatives
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.rendering.asset_tasks import ProjectAssets

if TYPE_CHECKING:
    import os

    from dbt_watch.authoring.options import ProjectOptions
    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.rendering.plan import Plan


@overload
def dbt_asset(manifest: str | os.PathLike[str], node: str) -> AssetAlias: ...


@overload
def dbt_asset(manifest: str | os.PathLike[str], node: str, *, namespace: str) -> Asset: ...


def dbt_asset(
    manifest: str | os.PathLike[str], node: str, *, namespace: str | None = None
) -> Asset | AssetAlias:
    """
    Return an asset or alias that schedules a DAG when a node of another DAG's project was built.

    :param manifest: the project's manifest.json: a path, resolved from the DAG file if relative, or the URL of an object store
    :param node: the node's name, unique_id, `package.name` or `name.v2`: a model, a seed or a snapshot
    :param namespace: the project's `assets_namespace`, to get the asset by its URI, if the manifest was made for the same database;
        without it, the alias through which every event of the node is sent, wherever dbt built it
    :raises ArgumentError: when there is no such node, or it has no asset
    """
    check_namespace("namespace", namespace)
    text = str(manifest)
    if "://" not in text and not Path(text).is_absolute():
        # Not a frame of ours: that of the DAG file.
        caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001
        text = str(Path(caller).resolve().parent / text)
    graph = load_manifest(text)
    found = _node_of(graph, node)
    alias = alias_name(graph.project_name, found.unique_id)
    if namespace is None:
        return AssetAlias(alias)
    return _asset(asset_uri(alias, namespace, found.relation_name), "namespace", namespace)


def _node_of(graph: Graph, name: str) -> Node:
    """
    Return the one node with an asset that a name refers to.

    :raises ArgumentError: when there is none, or several
    """
    named = graph.find(name)
    found = [node for node in named if has_asset(node)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(sorted(node.unique_id for node in found))
        raise ArgumentError("node", name, f"one node; there are {ids}")
    if named:
        kind = "an ephemeral model" if named[0].materialized == "ephemeral" else f"a {named[0].resource_type}"
        raise ArgumentError(
            "node", name, f"a model, a seed or a snapshot that dbt builds; {named[0].unique_id} is {kind}"
        )
    known = {label_of(node.unique_id) for node in graph.nodes.values() if has_asset(node)}
    raise ArgumentError("node", name, "a model, a seed or a snapshot of the project", known=known)


def _asset(uri: str, argument: str, value: str) -> Asset:
    """
    Return an asset named by its URI, as normalized by the provider of its scheme.

    :raises ArgumentError: when that provider rejects it
    """
    try:
        uri = Asset(uri=uri).uri
    except ValueError as error:
        raise ArgumentError(argument, value, f"the beginning of a URI that Airflow takes: {error}") from None
    return Asset(name=uri, uri=uri)


def project_assets(
    graph: Graph, plan: Plan, options: ProjectOptions, *, has_executor: bool
) -> ProjectAssets | None:
    """
    Return the assets of a project; None when no events are sent.

    :param graph: the project
    :param plan: its tasks
    :param options: the options of the decorator
    :param has_executor: whether our executor runs the sensors
    :raises SelectionError: when a selection matches no node that has an asset and a task
    :raises ArgumentError: when Airflow does not accept such a URI
    """
    wanted = options["assets"]
    if wanted == "none":
        return None
    nodes = {
        unique_id: graph.nodes[unique_id].relation_name
        for unique_id in plan.node_tasks
        if has_asset(graph.nodes[unique_id])
    }
    if wanted != "each":
        matched = _matched(graph, wanted.removeprefix(SELECTED))
        nodes = {unique_id: relation for unique_id, relation in nodes.items() if unique_id in matched}
    if not nodes:
        raise SelectionError(
            "assets", wanted, "a selection that matches at least one model, seed or snapshot of this project"
        )
    namespace = options["assets_namespace"]
    tracked = TrackedAssets(graph.project_name, nodes, namespace)
    if namespace is not None:
        # One tells: whether Airflow takes them depends on what is in front and on the number of parts.
        unique_id, relation = next(iter(nodes.items()))
        uri = asset_uri(alias_name(graph.project_name, unique_id), namespace, relation)
        _asset(uri, "assets_namespace", namespace)
    when = options["assets_when"]
    return ProjectAssets(tracked, by_sensors=when == "built" or (when == "auto" and has_executor))


def _matched(graph: Graph, selection: str) -> frozenset[str]:
    unmatched: list[Written] = []
    found = select_nodes(graph, select=criteria("assets", selection), on_unmatched=unmatched.append)
    if unmatched and not found:
        sought, known = alternatives(graph, unmatched[0].text)
        raise SelectionError(
            "assets", f"{SELECTED}{selection}", "a selection that matches a node", known=known, sought=sought
        )
    return frozenset(found)
