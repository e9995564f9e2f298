"""`@dbt_node` outside a project: a group of its own, with one dbt run that builds a node or selection and its tests."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from dbt_watch.authoring.node_functions import is_selection
from dbt_watch.authoring.project_factory import ProjectFactory
from dbt_watch.authoring.settings import ProjectSettings, resolve_manifest
from dbt_watch.core.command import DbtBuild
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.manifest.node_names import node_named
from dbt_watch.core.resume import criterion_of
from dbt_watch.core.selection.source_freshness import SOURCE, source_criterion
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.authoring.node_functions import Binding
    from dbt_watch.core.manifest.graph import Graph


def standalone(binding: Binding) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Return the decorator of a function outside a project.

    :param binding: how the function is bound; its task arguments are those of a project
    :raises ArgumentError: when one of them is invalid
    """
    arguments = dict(binding.task_arguments)
    build = arguments.pop("build", DbtBuild())
    if not isinstance(build, DbtBuild):
        raise ArgumentError("build", build, "dbt_build(...)")
    if "exclude" in arguments or "selector" in arguments:
        name = "exclude" if "exclude" in arguments else "selector"
        raise ArgumentError(name, arguments[name], "to be left out: the node is the selection")
    if binding.before:
        raise ArgumentError(
            "before",
            binding.before,
            "to be left out: only this node is built here; task >> group does the same",
        )
    settings = ProjectSettings.of("server" if "conn_id" in arguments else "pods", **arguments)
    inner = msgspec.structs.replace(binding, task_arguments={})

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            made: list[Any] = []

            @functools.wraps(function)
            def body(*args: Any, **kwargs: Any) -> DbtBuild:
                made.append(inner.bind(function)(*args, **kwargs))
                return build

            graph = load_manifest(resolve_manifest(settings.manifest, function))
            selection = binding.select if binding.node is None else _criterion(graph, binding.node)
            ProjectFactory(body, settings.override(select=selection))(*args, **kwargs)
            return made[0]

        return call

    return decorate


def _criterion(graph: Graph, node: str) -> str:
    """
    Return a node in dbt's selection syntax, which has no unique_ids; a selection is returned unchanged.

    :raises ArgumentError: when there is no such node
    """
    found = graph.find(node)
    if not found and not is_selection(node):
        node_named(graph, node, ())
    if len(found) != 1:
        return node
    return source_criterion(found[0]) if found[0].resource_type == SOURCE else criterion_of(found[0])
