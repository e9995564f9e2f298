"""
The arguments of `@dbt_k8s_project`, checked one by one, and what follows from them: a manifest and a selection.

`decorators` makes a `ProjectSettings`; `authoring.project_factory` reads it when the decorated function is called.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core import resume
from dbt_watch.core.command import Selection, criteria
from dbt_watch.core.log.drift import ON_DRIFT, OnDrift
from dbt_watch.core.log.stale_sources import ON_STALE, OnStale
from dbt_watch.core.selection import Written, default_selector, select_nodes
from dbt_watch.core.selection.near import alternatives
from dbt_watch.core.selection.source_freshness import (
    FRESHNESS,
    Freshness,
    source_criterion,
    sources_read_by,
    sources_selected,
)
from dbt_watch.exceptions import ArgumentError, SelectionError
from dbt_watch.rendering.group import SENSORS, Sensors
from dbt_watch.rendering.plan import TEST_TYPES, TESTS, Tests
from dbt_watch.rendering.subgroups import GROUPINGS, GroupBy

if TYPE_CHECKING:
    from dbt_watch.core.manifest.graph import Graph

Callback = Callable[[Any], None]


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `@dbt_k8s_project`; what they mean is said there."""

    manifest: str | os.PathLike[str]
    group_id: str | None = None
    project_dir: str | None = None
    profiles_dir: str | None = None
    select: str | Sequence[str] | None = None
    exclude: str | Sequence[str] | None = None
    selector: str | None = None
    tests: Tests = "after_each"
    group_by: GroupBy = "none"
    sensors: Sensors = "auto"
    keep_entrypoint: bool = False
    deps: bool = False
    freshness: Freshness = "none"
    on_stale: OnStale = "fail"
    on_drift: OnDrift = "warn"
    on_warning_callback: Callback | Sequence[Callback] | None = None
    operator_class: type[Any] | None = None
    pod: Mapping[str, Any] = {}

    @classmethod
    def of(cls, **arguments: Any) -> ProjectSettings:
        """
        Sort arguments into ours and those of the operator.

        :raises ArgumentError: when one of ours is missing or wrong
        """
        if "manifest" not in arguments:
            raise ArgumentError("manifest", None, "the path or the URL of the project's manifest.json")
        own = {name: arguments[name] for name in cls.__struct_fields__ if name in arguments and name != "pod"}
        return cls(**own, pod={name: value for name, value in arguments.items() if name not in own})

    def override(self, **arguments: Any) -> ProjectSettings:
        """Return the same with other arguments."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "pod"}
        return self.of(**{**own, **self.pod, **arguments})

    def __post_init__(self) -> None:
        """
        Check each argument for itself.

        :raises ArgumentError: naming the argument, the value and what was expected
        """
        if callable(self.manifest):
            raise ArgumentError(
                "@dbt_k8s_project", self.manifest, "arguments in parentheses: @dbt_k8s_project(manifest=...)"
            )
        _check_tests(self.tests)
        for name, allowed in _ALLOWED.items():
            one_of(name, getattr(self, name), allowed)
        for name in ("group_id", "project_dir", "profiles_dir", "selector"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise ArgumentError(name, value, "text, or None")
        for name in ("keep_entrypoint", "deps"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(name, getattr(self, name), "True or False")
        if self.on_stale != "fail" and self.freshness != "before":
            raise ArgumentError(
                "on_stale", self.on_stale, 'freshness="before" beside it: nothing else is held back'
            )
        callbacks("on_warning_callback", self.on_warning_callback)
        for name in CALLBACKS:
            callbacks(name, self.pod.get(name))


_ALLOWED: Final[dict[str, Sequence[str]]] = {
    "group_by": GROUPINGS,
    "sensors": SENSORS,
    "freshness": FRESHNESS,
    "on_stale": ON_STALE,
    "on_drift": ON_DRIFT,
}

# Airflow's own, which a producer and its sensors both take.
CALLBACKS: Final = (
    "on_execute_callback",
    "on_success_callback",
    "on_failure_callback",
    "on_retry_callback",
    "on_skipped_callback",
)


def one_of(argument: str, value: Any, allowed: Sequence[Any]) -> Any:
    """
    Return a value that is one of some.

    :raises ArgumentError: when it is not
    """
    if value not in allowed:
        raise ArgumentError(argument, value, f"one of {', '.join(map(repr, allowed))}", known=allowed)
    return value


# What it was called in the first days of this library.
_EARLIER_TESTS: Final = {"each": "after_each", "node": "build", "one": "after_all"}


def _check_tests(value: Any) -> None:
    """
    Refuse other names of a value by that value, astronomer-cosmos' `TestBehavior.AFTER_EACH` among them.

    :raises ArgumentError: when it is none of those allowed
    """
    word = str(value).rpartition(".")[2].lower()
    meant = _EARLIER_TESTS.get(word, word)
    if value not in TESTS and meant in TESTS:
        raise ArgumentError("tests", value, repr(meant))
    one_of("tests", value, TESTS)


def callbacks(argument: str, value: Any) -> list[Callback]:
    """
    Return one callback, several or none as a list.

    :raises ArgumentError: when something in it cannot be called
    """
    if value is None:
        return []
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    for item in items:
        if not callable(item):
            raise ArgumentError(
                argument, value, "a function that takes the context, or a list of such functions"
            )
    return items


def resolve_manifest(
    manifest: str | os.PathLike[str], function: Callable[..., Any]
) -> str | os.PathLike[str]:
    """
    Let a relative path start at the file that holds a function: a DAG file's own place, wherever it is parsed.

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
    :param unmatched: what `select` and `exclude` say that matches nothing
    """

    nodes: frozenset[str]
    selection: Selection
    unmatched: tuple[Written, ...] = ()


def chosen(graph: Graph, settings: ProjectSettings) -> Chosen:
    """
    Return the nodes that dbt will build, and the sources that it will check.

    :raises SelectionError: when the selection cannot be understood, matches nothing, or names a source that dbt cannot
        be asked for
    :raises ArgumentError: when there is no source that could be stale
    """
    return _CHOICES[settings.freshness](graph, settings)


def _builds(graph: Graph, settings: ProjectSettings) -> Chosen:
    selection = Selection(
        select=criteria("select", settings.select),
        exclude=criteria("exclude", settings.exclude),
        selector=settings.selector,
        exclude_resource_types=tuple(sorted(TEST_TYPES)) if settings.tests == "none" else (),
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
            "freshness", settings.freshness, f"a selection that reads from a {_SOURCE_WITH_POLICY}"
        )
    selection = msgspec.structs.replace(built.selection, sources=_source_criteria(graph, sources))
    nodes = built.nodes | sources
    selector = settings.selector or default_selector(graph)
    if selector is not None and not (selection.select or selection.exclude):
        # The `--exclude` of what stale sources hold back does not go together with a YAML selector.
        explicit = resume.selection_of(graph, nodes)
        if explicit is None:
            raise SelectionError("selector", selector, "nodes that dbt can be asked for one by one")
        selection = explicit
    return Chosen(nodes, selection, built.unmatched)


def _checks(graph: Graph, settings: ProjectSettings) -> Chosen:
    unmatched: list[Written] = []
    sources = sources_selected(
        graph,
        select=criteria("select", settings.select) or None,
        exclude=criteria("exclude", settings.exclude) or None,
        selector=settings.selector,
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
    given = {"select": settings.select, "exclude": settings.exclude, "selector": settings.selector}
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
