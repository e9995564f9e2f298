"""
The arguments of `@dbt_k8s_project` or `@dbt_api_project`, sorted and checked, and the resulting manifest and selection.

`decorators` makes a `ProjectSettings`; `authoring.project_factory` reads it when the decorated function is called.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from dbt_watch.authoring.isolation import check_isolate
from dbt_watch.authoring.options import AIRFLOW_CALLBACKS, DEFAULTS, ProjectOptions, callbacks, with_defaults
from dbt_watch.core import resume
from dbt_watch.core.command import Selection, criteria
from dbt_watch.core.selection import Written, default_selector, select_nodes
from dbt_watch.core.selection.near import alternatives
from dbt_watch.core.selection.source_freshness import (
    Freshness,
    source_criterion,
    sources_read_by,
    sources_selected,
)
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.rendering.plan import TEST_TYPES

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Graph


RunsIn = Literal["pods", "server"]
"""Where dbt runs."""

DECORATORS: Final[Mapping[RunsIn, str]] = {"pods": "@dbt_k8s_project", "server": "@dbt_api_project"}


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    The arguments of `@dbt_k8s_project` or `@dbt_api_project`, checked.

    :param manifest: a path or a URL
    :param options: all of `ProjectOptions`
    :param pod: the arguments of the operator
    :param runs_in: where dbt runs
    """

    manifest: str | os.PathLike[str]
    options: ProjectOptions
    pod: Mapping[str, Any]
    runs_in: RunsIn = "pods"

    @classmethod
    def of(cls, runs_in: RunsIn = "pods", **arguments: Any) -> ProjectSettings:
        """
        Sort arguments into ours and the operator's.

        :param runs_in: where dbt runs
        :raises ArgumentError: naming the argument, the value and what was expected
        """
        manifest = arguments.pop("manifest", None)
        if manifest is None:
            raise ArgumentError("manifest", None, "the path or the URL of the project's manifest.json")
        if callable(manifest):
            name = DECORATORS[runs_in]
            raise ArgumentError(name, manifest, f"arguments in parentheses: {name}(manifest=...)")
        given = {name: value for name, value in arguments.items() if name in DEFAULTS}
        pod = {name: value for name, value in arguments.items() if name not in DEFAULTS}
        for name in AIRFLOW_CALLBACKS:
            callbacks(name, pod.get(name))
        check_isolate("isolate", given.get("isolate"))
        return cls(manifest=manifest, options=with_defaults(given), pod=pod, runs_in=runs_in)

    def override(self, **arguments: Any) -> ProjectSettings:
        """Return the same with other arguments."""
        return self.of(self.runs_in, **{"manifest": self.manifest, **self.options, **self.pod, **arguments})


def resolve_manifest(
    manifest: str | os.PathLike[str], function: Callable[..., Any]
) -> str | os.PathLike[str]:
    """
    Resolve a relative path from the file that defines a function: the DAG file, wherever it is parsed.

    :param manifest: a path or a URL
    :param function: the decorated function
    """
    if not isinstance(manifest, str | os.PathLike):
        raise ArgumentError("manifest", manifest, "the path or the URL of the project's manifest.json")
    text = os.fspath(manifest)
    if "://" in text or Path(text).is_absolute():
        return manifest
    return Path(inspect.unwrap(function).__code__.co_filename).resolve().parent / text


class Chosen(msgspec.Struct, frozen=True):
    """
    What a project builds and checks.

    :param nodes: the unique_ids
    :param selection: how dbt is asked for them
    :param unmatched: parts of `select` and `exclude` that match nothing
    """

    nodes: frozenset[str]
    selection: Selection
    unmatched: tuple[Written, ...] = ()


def chosen(graph: Graph, settings: ProjectSettings) -> Chosen:
    """
    Return the nodes that dbt will build, and the sources that it will check.

    :raises SelectionError: when the selection is invalid, matches nothing, or contains a source that dbt cannot
        select on its own
    :raises ArgumentError: when there is no source that could be stale
    """
    return _CHOICES[settings.options["freshness"]](graph, settings)


def _builds(graph: Graph, settings: ProjectSettings) -> Chosen:
    selection = Selection(
        select=criteria("select", settings.options["select"]),
        exclude=criteria("exclude", settings.options["exclude"]),
        selector=settings.options["selector"],
        exclude_resource_types=tuple(sorted(TEST_TYPES)) if settings.options["tests"] == "none" else (),
    )
    unmatched: list[Written] = []
    nodes = select_nodes(
        graph,
        select=selection.select or None,
        exclude=selection.exclude or None,
        selector=selection.selector,
        exclude_resource_types=selection.exclude_resource_types,
        on_unmatched=unmatched.append,
    )
    if not nodes:
        raise _matches_none(graph, settings, "node", unmatched)
    return Chosen(nodes, selection, tuple(unmatched))


def _builds_after_checks(graph: Graph, settings: ProjectSettings) -> Chosen:
    built = _builds(graph, settings)
    sources = sources_read_by(graph, built.nodes)
    if not sources:
        raise ArgumentError(
            "freshness", settings.options["freshness"], f"a selection that reads from a {_SOURCE_WITH_POLICY}"
        )
    selection = msgspec.structs.replace(built.selection, sources=_source_criteria(graph, sources))
    nodes = built.nodes | sources
    selector = settings.options["selector"] or default_selector(graph)
    if selector is not None and not (selection.select or selection.exclude):
        # The `--exclude` of what stale sources hold back does not go together with a YAML selector.
        explicit = resume.selection_of(graph, nodes)
        if explicit is None:
            raise SelectionError(
                "selector",
                selector,
                "nodes that one dbt command can select by name: some names are ambiguous, or the list is too long",
            )
        selection = explicit
    return Chosen(nodes, selection, built.unmatched)


def _checks(graph: Graph, settings: ProjectSettings) -> Chosen:
    unmatched: list[Written] = []
    sources = sources_selected(
        graph,
        select=criteria("select", settings.options["select"]) or None,
        exclude=criteria("exclude", settings.options["exclude"]) or None,
        selector=settings.options["selector"],
        on_unmatched=unmatched.append,
    )
    if not sources:
        raise _matches_none(graph, settings, _SOURCE_WITH_POLICY, unmatched)
    selection = Selection(sources=_source_criteria(graph, sources), builds=False)
    return Chosen(sources, selection, tuple(unmatched))


_CHOICES: Final[dict[Freshness, Callable[[Graph, ProjectSettings], Chosen]]] = {
    "none": _builds,
    "before": _builds_after_checks,
    "only": _checks,
}
_SOURCE_WITH_POLICY: Final = "source with a freshness policy (warn_after or error_after)"


def _source_criteria(graph: Graph, sources: frozenset[str]) -> tuple[str, ...]:
    return tuple(source_criterion(graph.nodes[unique_id]) for unique_id in sorted(sources))


def _matches_none(
    graph: Graph, settings: ProjectSettings, what: str, unmatched: Sequence[Written]
) -> SelectionError:
    given = {
        "select": settings.options["select"],
        "exclude": settings.options["exclude"],
        "selector": settings.options["selector"],
    }
    used = {name: value for name, value in given.items() if value is not None}
    name, value = next(iter(used.items()), ("manifest", settings.manifest))
    sought, known = alternatives(graph, unmatched[0].text) if unmatched else (None, [])
    return SelectionError(
        name,
        value,
        f"a selection that matches at least one {what} of {graph.project_name or 'the project'};"
        f" {', '.join(f'{key}={item!r}' for key, item in used.items()) or 'its manifest'} matches none",
        known=known,
        sought=sought,
    )
