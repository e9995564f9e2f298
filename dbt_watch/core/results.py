"""
What is known about a node: `NodeResult`, which the ledger creates, the journal carries, and sensors and users read.

Also `NodeInfo` and `SelectedNode`, the little that the ledger needs to know about a node before dbt runs.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from dbt_watch.core.labels import label_of
from dbt_watch.core.statuses import Meaning, meaning

MAX_MESSAGE_CHARS: Final = 16_000
"""How many characters of dbt's text for a node are kept."""
MAX_BATCHES: Final = 100
"""How many batches of a microbatch model are kept."""
_MAX_SCALARS: Final = 16
_MAX_SCALAR_CHARS: Final = 256


class SelectedNode(Protocol):
    """What the ledger reads from a node of the selection; `NodeInfo` is one, and so is a node of the manifest."""

    @property
    def name(self) -> str:
        """Its name, as dbt prints it."""

    @property
    def resource_type(self) -> str:
        """Its type, such as "model" or "test"."""

    @property
    def materialized(self) -> str | None:
        """Its materialization, such as "table"; None or empty if it has none."""

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The unique_ids of its direct parents."""

    @property
    def is_empty(self) -> bool:
        """Whether its file has nothing to run."""


class NodeInfo(msgspec.Struct, frozen=True, gc=False):
    """A node of the selection, as in the manifest."""

    name: str
    resource_type: str = ""
    materialized: str = ""
    depends_on: tuple[str, ...] = ()
    is_empty: bool = False


class NotRun(str, enum.Enum):
    """Why dbt did not run a node, or did not finish it."""

    EPHEMERAL = "ephemeral"
    NOTHING_TO_RUN = "nothing to run"
    NOT_IN_PROJECT = "not in the project"
    LEFT_OUT = "left out"
    STALE_SOURCE = "stale source"
    UPSTREAM_SKIPPED = "upstream skipped"
    FAIL_FAST = "fail-fast"
    ENDED_EARLY = "dbt ended early"
    UNFINISHED = "unfinished"
    NOT_KNOWN = "not known"


class Batch(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One batch of a microbatch model: its number from 1, its status in dbt, and its seconds."""

    index: int
    status: str
    execution_time: float | None = None


class NodeResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What dbt reported for a node.

    :param unique_id: dbt's id of the node
    :param name: its name
    :param resource_type: "model", "test", "seed", "operation" (a hook), ...
    :param status: dbt's own status; "started" while it runs, "not run" if dbt never got to it or ended before it
        finished
    :param started_at: when dbt started it (UTC)
    :param finished_at: when dbt finished it (UTC)
    :param execution_time: seconds
    :param rows_affected: the number of rows that the database reported, for models, seeds and snapshots; None if it or its
        adapter reports none, as for most views, which does not mean 0
    :param failures: the number of failures of a test
    :param message: dbt's error or warning text, or why it was not run
    :param sql: for a failed node, the last SQL that dbt sent to the database, about the first 4,000 characters
    :param relation_name: the quoted name in the database
    :param adapter_response: the adapter's response (small values only)
    :param skipped_because: for a skipped node, the unique_ids of the failed upstream nodes
    :param not_run: why it was not run, if `status` says so
    :param batches: the batches of a microbatch model, the first `MAX_BATCHES` of them
    :param batch_count: how many batches there are
    :param age: for a source's freshness, seconds since its last row was loaded
    :param attempt: which attempt of the producer this belongs to, from 1
    :param invocation_id: the id of the dbt invocation that ran it
    :param thread: the dbt thread that ran it, such as "Thread-2", or "MainThread" for a hook; None if dbt does not say
    :param from_run_results: whether its outcome is known only from run_results.json, not from dbt's log
    """

    unique_id: str
    name: str = ""
    resource_type: str = ""
    status: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    execution_time: float | None = None
    rows_affected: int | None = None
    failures: int | None = None
    message: str | None = None
    sql: str | None = None
    relation_name: str | None = None
    adapter_response: dict[str, Any] = {}
    skipped_because: tuple[str, ...] = ()
    not_run: NotRun | None = None
    batches: tuple[Batch, ...] = ()
    batch_count: int | None = None
    age: float | None = None
    attempt: int = 1
    invocation_id: str | None = None
    thread: str | None = None
    from_run_results: bool = False

    @property
    def label(self) -> str:
        """Its display name: with the version for a model, with the source's name for a source table."""
        return label_of(self.unique_id)

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more in this attempt."""
        return meaning(self.status) is not Meaning.OPEN

    @property
    def is_success(self) -> bool:
        """Whether it succeeded without a warning."""
        return meaning(self.status) is Meaning.SUCCESS

    @property
    def is_warning(self) -> bool:
        """Whether it succeeded with a warning."""
        return meaning(self.status) is Meaning.WARNING

    @property
    def is_failure(self) -> bool:
        """Whether it failed."""
        return meaning(self.status) is Meaning.FAILURE

    @property
    def is_skipped(self) -> bool:
        """Whether dbt skipped it because of another node."""
        return meaning(self.status) is Meaning.SKIPPED

    @property
    def was_not_run(self) -> bool:
        """Whether dbt never got to it, or did not finish it."""
        return meaning(self.status) is Meaning.NOT_RUN

    def to_dict(self) -> dict[str, Any]:
        """Return a dict of JSON values, without fields that have their default value."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        # Tuples would stay tuples, which Airflow stores as something else than JSON's lists.
        if self.skipped_because:
            result["skipped_because"] = list(self.skipped_because)
        if self.batches:
            result["batches"] = list(result["batches"])
        return result

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> NodeResult:
        """
        Read what `to_dict` returned.

        :raises msgspec.ValidationError: when it is something else
        """
        return msgspec.convert(value, cls)


NOT_DUE: Final = frozenset({
    NotRun.EPHEMERAL, NotRun.NOTHING_TO_RUN, NotRun.NOT_IN_PROJECT, NotRun.LEFT_OUT, NotRun.STALE_SOURCE,
    NotRun.UPSTREAM_SKIPPED,
})  # fmt: skip
"""Why a node is not run although nothing is wrong: there was nothing to run, or this run left it out."""


def shortened(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """Return about `limit` characters of a text: its beginning and end, and in between the number of characters left out."""
    if len(text) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    return f"{text[:head]}\n[{len(text) - head - tail} characters left out]\n{text[len(text) - tail :]}"


def small_scalars(response: dict[str, Any] | None) -> dict[str, Any]:
    """Return the small values of an adapter's response: the first 16 numbers, booleans and short texts."""
    kept: dict[str, Any] = {}
    for key, value in (response or {}).items():
        if len(kept) == _MAX_SCALARS:
            break
        if len(key) > _MAX_SCALAR_CHARS or not isinstance(value, (str, int, float, bool)):
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # noqa: PLW2901 - dbt writes every number as a float
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            continue
        kept[key] = value[:_MAX_SCALAR_CHARS] if isinstance(value, str) else value
    return kept


_MAX_BITS: Final = 63
