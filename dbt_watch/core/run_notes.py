"""
What a task that runs dbt tells beside its journal, in XComs of its own: the outline, the phase, the summary.

- The *columns* of the nodes and the *tries* that have failed in earlier attempts, at the beginning of an attempt.
- The *outline*, at the beginning of an attempt: the nodes, what they depend on, their files, and the tasks that stand for them.
  The page has the graph from it, since no manifest is where Airflow's web interface runs.
- The *phase*, when it changes: what happens before dbt comes to its first node.
- The *summary*, at the end: how long each node took, for later runs to be compared with.

`producers.notes` writes them, `page` reads them. They have keys and formats of their own: the journal is as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from dbt_watch.core.manifest.columns import Column
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.packed import PackedError, pack, unpack
from dbt_watch.core.results import NodeResult, shortened
from dbt_watch.core.selection.gaps import edges_over_gaps
from dbt_watch.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

OUTLINE_KEY: Final = "dbt_watch_outline"
PHASE_KEY: Final = "dbt_watch_phase"
SUMMARY_KEY: Final = "dbt_watch_summary"
COLUMNS_KEY: Final = "dbt_watch_columns"
TRIES_KEY: Final = "dbt_watch_tries"

Phase = Literal["waiting", "pod", "parsing", "running", "over"]

MAX_DESCRIPTION_CHARS: Final = 400
"""How much of a node's description an outline holds."""
MAX_PHASE_CHARS: Final = 500
MAX_COLUMN_PIECES: Final = 8
"""How many XComs of 48 KB the columns of a project may take."""


class OutlineNode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    A node as an outline has it.

    :param unique_id: dbt's key of the node
    :param task: the number of the task that stands for it, in `Outline.tasks`; -1 where there is none
    :param parents: what it depends on directly, and the nearest that are built behind what is not: the numbers of nodes in
        `Outline.nodes`, and after these in `Outline.others`
    """

    unique_id: str
    task: int
    parents: tuple[int, ...]
    path: str = ""
    materialized: str = ""
    description: str = ""


class Outline(msgspec.Struct, frozen=True, array_like=True):
    """
    What a task that runs dbt is going to build.

    :param group: the id of the project's task group
    :param project: the name of the dbt project
    :param tasks: the ids of the tasks that stand for its nodes
    :param nodes: its nodes
    :param others: the unique_ids of what they depend on and what is not built here, such as sources
    """

    group: str
    project: str
    tasks: tuple[str, ...]
    nodes: tuple[OutlineNode, ...]
    others: tuple[str, ...] = ()

    @property
    def task_of(self) -> dict[str, str]:
        """The task that stands for each node that has one."""
        return {node.unique_id: self.tasks[node.task] for node in self.nodes if node.task >= 0}

    @property
    def graph_nodes(self) -> list[Node]:
        """The nodes, and what they depend on, as a graph has them."""
        ids = [*(node.unique_id for node in self.nodes), *self.others]
        known = [
            _graph_node(
                node.unique_id,
                tuple(ids[number] for number in node.parents),
                path=node.path,
                materialized=node.materialized,
                description=node.description,
            )
            for node in self.nodes
        ]
        return [*(_graph_node(unique_id) for unique_id in self.others), *known]


def _graph_node(unique_id: str, depends_on: tuple[str, ...] = (), **more: Any) -> Node:
    kind, _, rest = unique_id.partition(".")
    package, _, name = rest.partition(".")
    return Node(
        unique_id=unique_id,
        name=name,
        resource_type=kind,
        package_name=package,
        depends_on=depends_on,
        **more,
    )


def outline_of(
    graph: Graph, nodes: Iterable[str], watched: Mapping[str, Sequence[str]], group: str
) -> Outline:
    """
    Return the outline of a build.

    :param graph: the project
    :param nodes: the unique_ids of what is built
    :param watched: the unique_ids that each task stands for, by its id
    :param group: the id of the project's task group
    """
    built = sorted(unique_id for unique_id in nodes if unique_id in graph.nodes)
    more = edges_over_gaps(graph, built)
    numbers = {unique_id: number for number, unique_id in enumerate(built)}
    others: dict[str, int] = {}
    tasks = tuple(watched)
    task_of = {unique_id: number for number, task_id in enumerate(tasks) for unique_id in watched[task_id]}

    def number_of(unique_id: str) -> int:
        known = numbers.get(unique_id)
        return known if known is not None else len(built) + others.setdefault(unique_id, len(others))

    found = tuple(
        OutlineNode(
            unique_id,
            task_of.get(unique_id, -1),
            tuple(number_of(parent) for parent in (*graph.parents(unique_id), *more.get(unique_id, ()))),
            graph.nodes[unique_id].path,
            graph.nodes[unique_id].materialized or "",
            shortened(graph.nodes[unique_id].description, MAX_DESCRIPTION_CHARS),
        )
        for unique_id in built
    )
    return Outline(group, graph.project_name, tasks, found, tuple(others))


def pack_outline(outline: Outline, attempt: int) -> list[tuple[str, str]]:
    """
    Return the XComs of an outline, in the order in which to write them; one that is too large goes without its texts.

    :raises PackedError: when it is too large even so
    """
    try:
        return pack(OUTLINE_KEY, outline, attempt)
    except PackedError:
        bare = [OutlineNode(node.unique_id, node.task, node.parents) for node in outline.nodes]
        return pack(OUTLINE_KEY, msgspec.structs.replace(outline, nodes=tuple(bare)), attempt)


def unpack_outline(value: Any, ask: Callable[[int], Any]) -> Outline:
    """
    Read an outline.

    :param value: the XCom with the key `OUTLINE_KEY`
    :param ask: returns another piece by its number
    :raises PackedError: when it cannot be read
    """
    outline: Outline = _decoded(unpack(value, ask), Outline)
    count, tasks = len(outline.nodes) + len(outline.others), len(outline.tasks)
    if any(
        not -1 <= node.task < tasks or any(not 0 <= parent < count for parent in node.parents)
        for node in outline.nodes
    ):
        raise PackedError("an outline whose numbers do not match")
    return outline


def graph_of(outlines: Collection[Outline]) -> Graph:
    """Return the parts of a project as one graph; where two tell of a node, what builds it is believed."""
    nodes: dict[str, Node] = {}
    for outline in outlines:
        built = {node.unique_id for node in outline.nodes}
        for node in outline.graph_nodes:
            if node.unique_id in built or node.unique_id not in nodes:
                nodes[node.unique_id] = node
    project = next((outline.project for outline in outlines if outline.project), None)
    return Graph(Facts(dbt_version="", project_name=project), nodes.values())


# Columns, and tries of earlier attempts.


def pack_columns(columns: Mapping[str, Sequence[Column]], attempt: int) -> list[tuple[str, str]]:
    """
    Return the XComs of the columns of nodes, in the order in which to write them; without the descriptions where these take too much.

    :param columns: by unique_id
    :raises PackedError: when they are too many even so
    """
    for longest in (MAX_DESCRIPTION_CHARS, 0):
        told = {
            unique_id: [
                (column.name, column.type, shortened(column.description, longest) if longest else "")
                for column in described
            ]
            for unique_id, described in columns.items()
        }
        writes = pack(COLUMNS_KEY, told, attempt)
        if len(writes) <= MAX_COLUMN_PIECES:
            return writes
    raise PackedError(f"{COLUMNS_KEY} takes {len(writes)} pieces; {MAX_COLUMN_PIECES} are allowed")


def unpack_columns(value: Any, ask: Callable[[int], Any]) -> dict[str, tuple[Column, ...]]:
    """
    Read the columns of nodes, by unique_id.

    :param value: the XCom with the key `COLUMNS_KEY`
    :param ask: returns another piece by its number
    :raises PackedError: when they cannot be read
    """
    told: dict[str, list[tuple[str, str, str]]] = _decoded(
        unpack(value, ask), dict[str, list[tuple[str, str, str]]]
    )
    return {unique_id: tuple(Column(*column) for column in columns) for unique_id, columns in told.items()}


def pack_tries(tries: Sequence[NodeResult], attempt: int) -> list[tuple[str, str]]:
    """
    Return the XComs of what nodes came to in earlier attempts, in the order in which to write them.

    :raises PackedError: when it is too large
    """
    return pack(TRIES_KEY, tries, attempt)


def unpack_tries(value: Any, ask: Callable[[int], Any]) -> list[NodeResult]:
    """
    Read what nodes came to in earlier attempts.

    :param value: the XCom with the key `TRIES_KEY`
    :param ask: returns another piece by its number
    :raises PackedError: when it cannot be read
    """
    tries: list[NodeResult] = _decoded(unpack(value, ask), list[NodeResult])
    return tries


# The phase.


class PhaseNote(msgspec.Struct, frozen=True):
    """
    What a task that runs dbt does now.

    :param phase: "pod": what is to run dbt is not there yet; "parsing": dbt has been started
    :param text: more of it, in words
    :param at: since when, in seconds since the epoch
    :param attempt: of the task
    :param group: the id of the project's task group
    """

    phase: Phase
    text: str
    at: float
    attempt: int
    group: str = ""


def encode_phase(note: PhaseNote) -> str:
    """Return the XCom of a phase."""
    return msgspec.json.encode(
        msgspec.structs.replace(note, text=one_line(note.text, MAX_PHASE_CHARS))
    ).decode()


def decode_phase(value: Any) -> PhaseNote | None:
    """Read a phase as XCom gives it back; None where it is none."""
    try:
        if isinstance(value, str):
            return msgspec.json.decode(value, type=PhaseNote)
        return msgspec.convert(value, PhaseNote)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


# The summary.


class RunSummary(msgspec.Struct, frozen=True, array_like=True):
    """
    What is left of an attempt for later runs.

    :param exit_code: of dbt; None when it is not known
    :param begin: when its first node began, in seconds since the epoch; None where none did
    :param end: when its last node was over
    :param ids: its nodes
    :param states: dbt's word on each
    :param seconds: how long each took; None where it did not run
    """

    exit_code: int | None
    begin: float | None
    end: float | None
    ids: tuple[str, ...]
    states: tuple[str, ...]
    seconds: tuple[float | None, ...]


def summary_of(results: Iterable[NodeResult], exit_code: int | None, attempt: int) -> RunSummary:
    """
    Return the summary of an attempt that has ended.

    :param results: the last word on each node; what earlier attempts have built counts, but not for the times of the whole
    :param exit_code: of dbt
    :param attempt: which attempt
    """
    told = [result for result in results if result.is_final]
    own = [result for result in told if result.attempt == attempt and not result.was_not_run]
    begins = [result.started_at.timestamp() for result in own if result.started_at is not None]
    ends = [result.finished_at.timestamp() for result in own if result.finished_at is not None]
    return RunSummary(
        exit_code,
        min(begins, default=None),
        max(ends, default=None),
        tuple(result.unique_id for result in told),
        tuple(result.status for result in told),
        tuple(
            None
            if result.execution_time is None or result.is_skipped or result.was_not_run
            else round(result.execution_time, 3)
            for result in told
        ),
    )


def pack_summary(summary: RunSummary, attempt: int) -> list[tuple[str, str]]:
    """
    Return the XComs of a summary, in the order in which to write them.

    :raises PackedError: when it is too large
    """
    return pack(SUMMARY_KEY, summary, attempt)


def unpack_summary(value: Any, ask: Callable[[int], Any]) -> RunSummary:
    """
    Read a summary.

    :param value: the XCom with the key `SUMMARY_KEY`
    :param ask: returns another piece by its number
    :raises PackedError: when it cannot be read
    """
    summary: RunSummary = _decoded(unpack(value, ask), RunSummary)
    if not len(summary.ids) == len(summary.states) == len(summary.seconds):
        raise PackedError("a summary whose columns do not match")
    return summary


def _decoded(content: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PackedError(f"damaged: {one_line(str(error), 200)}") from error
