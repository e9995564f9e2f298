"""
What is known of one run of dbt, as plain data: the one source of the summary, the page, the picture and the JSON.

`reporting.assembly` makes a `RunRecord`; everything that shows one reads nothing else. Times are UTC, durations in seconds, and
nodes are named by their unique_id.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from dbt_watch.core.causes import RootCause
from dbt_watch.core.manifest.columns import Column
from dbt_watch.core.results import Batch
from dbt_watch.exceptions import DbtWatchError

FORMAT: Final = 1
"""Counts the changes of the format; new fields are none."""

Meaning = Literal["success", "warning", "failure", "skipped", "not run", "open"]
Outcome = Literal["success", "failure", "error", "unfinished"]


class RecordError(DbtWatchError):
    """A text is no record of a run that this version can read."""


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One node, with the last word on it.

    :param unique_id: dbt's key of the node
    :param name: its short name
    :param kind: "model", "test", "seed", "operation" (a hook), ...
    :param state: dbt's own word, or "not run"
    :param meaning: what that word means
    :param not_run: why it was not run, in a word, where `state` says so
    :param because: the failed nodes for which dbt skipped it
    :param path: its file, with a manifest; so are `description`, `columns`, `tests` and `depends_on`
    :param attempt: the attempt that had the last word
    :param thread: the thread of dbt that ran it, where that is known
    """

    unique_id: str
    name: str
    kind: str
    state: str
    meaning: Meaning
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    rows: int | None = None
    failures: int | None = None
    message: str | None = None
    sql: str | None = None
    relation: str | None = None
    not_run: str | None = None
    because: tuple[str, ...] = ()
    batches: tuple[Batch, ...] = ()
    batch_count: int | None = None
    age: float | None = None
    attempt: int = 1
    thread: str | None = None
    materialized: str = ""
    path: str = ""
    description: str = ""
    columns: tuple[Column, ...] = ()
    tests: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()


class Bar(msgspec.Struct, frozen=True):
    """One try of a node: from when to when, in seconds since the run began, and how it ended."""

    node: str
    begin: float
    end: float
    state: str
    meaning: Meaning


class Lane(msgspec.Struct, frozen=True):
    """
    What one thread of dbt did.

    :param name: the thread's name, or a number where it is not known
    :param bars: in the order of time; no two overlap
    :param idle: seconds in which it did nothing, while the command ran nodes; 0 for dbt's main thread, which runs hooks alone
    """

    name: str
    bars: tuple[Bar, ...]
    idle: float


class CommandTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """
    One dbt command: a run has one for each attempt, and one more where source freshness is checked first.

    :param label: what it is called, such as "attempt 2"
    :param attempt: from 1
    :param started_at: when dbt began; None where nothing tells
    :param begin: when its first node began, in seconds since the run began
    :param end: when its last node was over
    :param threads: how many threads dbt was to use; None where nothing tells
    :param has_threads: whether the lanes are dbt's threads; else they are worked out from the times, as few as will do
    """

    label: str
    attempt: int
    invocation_id: str
    dbt_version: str
    started_at: datetime | None
    finished_at: datetime | None
    begin: float
    end: float
    threads: int | None
    has_threads: bool
    lanes: tuple[Lane, ...]


class CriticalPath(msgspec.Struct, frozen=True):
    """
    The chain of nodes, each of which had to wait for the one before, that took the longest: no number of threads makes the run shorter.

    :param nodes: from the first to the last
    :param seconds: of these nodes together, without the pauses between them
    """

    nodes: tuple[str, ...]
    seconds: float


class Before(msgspec.Struct, frozen=True):
    """What another run says of a node."""

    state: str
    meaning: Meaning
    seconds: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """
    What differs from another run.

    :param other: where the other run comes from
    :param seconds: of this run; None where it is not known
    :param seconds_before: of the other
    :param slower: nodes that took clearly longer, the greatest difference first
    :param faster: those that took clearly less
    :param broken: nodes that failed, or were skipped, and had not before
    :param repaired: the other way round
    :param added: nodes that only this run has
    :param removed: nodes that only the other run has
    :param before: what the other run says of each of its nodes
    """

    other: str
    seconds: float | None
    seconds_before: float | None
    slower: tuple[str, ...]
    faster: tuple[str, ...]
    broken: tuple[str, ...]
    repaired: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    before: dict[str, Before]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """
    One run of dbt.

    :param source: where this comes from, in words
    :param project: the name of the dbt project; empty where nothing tells
    :param outcome: "error" when dbt broke off, "unfinished" when it was not over
    :param nodes: in the order in which they began; those that never did come last
    :param commands: in the order of time
    :param critical_path: None where nothing is known of what depends on what
    :param notes: what is not known, and why
    """

    format: int = FORMAT
    source: str
    project: str
    outcome: Outcome
    dbt_version: str
    started_at: datetime | None
    finished_at: datetime | None
    nodes: tuple[NodeRecord, ...]
    causes: tuple[RootCause, ...]
    commands: tuple[CommandTimeline, ...]
    critical_path: CriticalPath | None
    comparison: Comparison | None
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """How long the run took; None where it is not known."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    def to_json(self) -> bytes:
        """Return it as JSON, which `record_in` reads."""
        return msgspec.json.encode(self)


def record_in(content: bytes | str) -> RunRecord:
    """
    Read what `RunRecord.to_json` returned.

    :raises RecordError: it is something else, or of another version
    """
    try:
        found = msgspec.json.decode(content, type=_Heading).format
        if found != FORMAT:
            raise RecordError(f"the record of a run has format {found}; this version reads {FORMAT} only")
        return msgspec.json.decode(content, type=RunRecord)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordError(f"not the record of a run: {error}") from error


class _Heading(msgspec.Struct):
    format: int
