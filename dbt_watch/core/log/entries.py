"""
Makes the entries of the ledger, which are `NodeResult`s: from events and from dbt's artifacts.

`core.log.ledger` and `core.log.end_of_run` call it. Whether an entry may change is not decided here but in the ledger.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.labels import label_of
from dbt_watch.core.results import NodeResult, shortened, small_scalars
from dbt_watch.core.text import sanitize, without_backtrace, without_escapes

if TYPE_CHECKING:
    from dbt_watch.core.log.artifacts import Concluded
    from dbt_watch.core.log.events import DbtEvent, EventNode, RunResult
    from dbt_watch.core.log.node_state import Slot
    from dbt_watch.core.results import SelectedNode

TESTS: Final = frozenset({"test", "unit_test"})
"""The resource types that check something."""

_NOTHING: Final[tuple[Any, ...]] = (None, {}, (), "")


def started(event: DbtEvent, node: EventNode, slot: Slot, attempt: int) -> NodeResult:
    """Return the entry of a node that begins."""
    relation = node.node_relation
    return NodeResult(
        unique_id=slot.unique_id,
        name=node.node_name,
        resource_type=node.resource_type,
        status=statuses.STARTED,
        started_at=moment(node.node_started_at or event.info.ts),
        relation_name=relation.relation_name or None if relation is not None else None,
        attempt=attempt,
        invocation_id=slot.invocation,
        thread=thread_of(event.info.thread),
    )


def ended(event: DbtEvent, node: EventNode, slot: Slot, status: str, attempt: int) -> NodeResult:
    """Return the entry of a node that is over, as far as its own event tells."""
    data, kind, shown = event.data, node.resource_type, slot.result
    relation, text, count = node.node_relation, data.result_message or data.status, data.num_failures
    relation_name = relation.relation_name or None if relation is not None else None
    finished_at = moment(node.node_finished_at or event.info.ts)
    rows = _rows_in_text(text, kind) if text and text[-1].isdigit() else None
    failures = _failures(status, kind, count) if count is not None else None
    is_own = shown is not None and shown.invocation_id == slot.invocation
    if shown is not None and is_own and shown.status == statuses.STARTED:
        # Half of a long log takes this way, which is twice as fast as a new entry.
        return msgspec.structs.replace(
            shown,
            resource_type=kind,
            status=status,
            finished_at=finished_at,
            execution_time=data.execution_time,
            rows_affected=rows,
            failures=failures,
            relation_name=relation_name,
        )
    return NodeResult(
        unique_id=slot.unique_id,
        name=node.node_name,
        resource_type=kind,
        status=status,
        started_at=shown.started_at if shown is not None and is_own else moment(node.node_started_at),
        finished_at=finished_at,
        execution_time=data.execution_time,
        rows_affected=rows,
        failures=failures,
        relation_name=relation_name,
        attempt=attempt,
        invocation_id=slot.invocation,
        thread=thread_of(event.info.thread),
    )


def with_run_result(result: NodeResult, found: RunResult) -> NodeResult:
    """Return an entry with the details of a result that came with the end itself."""
    kind = result.resource_type
    return msgspec.structs.replace(
        result,
        execution_time=found.execution_time,
        rows_affected=_rows_in_response(found, kind),
        failures=_failures(result.status, kind, found.num_failures),
        adapter_response=small_scalars(found.adapter_response),
    )


def completed(result: NodeResult, found: RunResult, more: dict[str, Any] | None = None) -> NodeResult | None:
    """
    Return an entry with what it lacks filled in; its state does not change.

    :returns: None when there is nothing to fill in
    """
    kind, status = result.resource_type, result.status
    fields: dict[str, Any] = {
        "message": message_of(found.message) if has_text(status) else None,
        "execution_time": found.execution_time,
        "rows_affected": _rows_in_response(found, kind),
        "failures": _failures(status, kind, found.num_failures),
        "adapter_response": small_scalars(found.adapter_response),
        **(more or {}),
    }
    missing = {
        key: value
        for key, value in fields.items()
        if value not in _NOTHING and getattr(result, key) in _NOTHING
    }
    return msgspec.structs.replace(result, **missing) if missing else None


def concluded(found: Concluded, slot: Slot, info: SelectedNode | None, attempt: int) -> NodeResult:
    """Return the entry of a node whose end is known from an artifact only."""
    blank = unreported(slot, info, attempt)
    result = with_run_result(msgspec.structs.replace(blank, status=found.status), found.run_result)
    text = (message_of(found.text) or slot.text) if has_text(found.status) else None
    thread = thread_of(found.thread_id or "")
    return msgspec.structs.replace(
        result, message=text, thread=thread, from_run_results=True, **more_in(found)
    )


def more_in(found: Concluded) -> dict[str, Any]:
    """Return what an artifact has and events have not, as fields of an entry."""
    began = [moment(phase.started_at) for phase in found.timing]
    over = [moment(phase.completed_at) for phase in found.timing]
    batches = found.batch_results
    count = len(batches.successful) + len(batches.failed) if batches is not None else 0
    return {
        "started_at": min(filter(None, began), default=None),
        "finished_at": max(filter(None, over), default=None),
        "relation_name": found.relation_name,
        "batch_count": count or None,
        "age": found.max_loaded_at_time_ago_in_s,
    }


def unreported(slot: Slot, info: SelectedNode | None, attempt: int) -> NodeResult:
    """Return the entry of a node that the log says nothing of."""
    return NodeResult(
        unique_id=slot.unique_id,
        name=info.name if info is not None else label_of(slot.unique_id),
        resource_type=info.resource_type if info is not None else slot.unique_id.partition(".")[0],
        status=statuses.NOT_RUN,
        attempt=attempt,
        invocation_id=slot.invocation or None,
    )


def thread_of(name: str) -> str | None:
    """Return the name of a thread of dbt-core, without what it does there; None for Fusion's, which all have the same."""
    return name.partition(" ")[0] if name.startswith(_THREADS) else None


def has_text(status: str) -> bool:
    """Whether a node in this state has a message: dbt's text of a success says nothing."""
    return statuses.meaning(status) is not statuses.Meaning.SUCCESS


def failure_word(node: EventNode, text: str | None) -> str:
    """Return "fail" for a failed test and "error" for anything broken, by dbt's text, where the event itself was lost."""
    return "fail" if node.resource_type in TESTS and (text or "").startswith("Got ") else "error"


def usual_text(result: NodeResult) -> str | None:
    """Return a message for a status to which dbt adds none; None where it needs none."""
    return _USUAL_TEXTS.get((result.resource_type, result.status))


def message_of(text: str | None) -> str | None:
    """Return dbt's text as a message: sanitized, without program frames, bounded; None when nothing is left."""
    if not text:
        return None
    return shortened(sanitize(without_backtrace(without_escapes(text)).strip())) or None


_USUAL_TEXTS: Final = {
    ("source", "warn"): "older than its freshness policy's warn_after",
    ("source", "error"): "stale: older than its freshness policy's error_after",
}
_THREADS: Final = ("Thread-", "MainThread")
_COUNTED: Final = frozenset({"model", "seed", "snapshot"})
_COUNTS_FAILURES: Final = frozenset({"pass", "warn", "fail"})
_MAX_BITS: Final = 63
_MAX_DIGITS: Final = 18


def _rows_in_text(text: str, kind: str) -> int | None:
    """Read the number of rows from a database's answer such as "SELECT 100", "INSERT 0 100" or "SUCCESS 100"."""
    if kind not in _COUNTED:
        return None
    words, _, digits = text.rpartition(" ")
    letters = words.removesuffix(" 0").replace(" ", "")
    is_answer = letters.isupper() and letters.isalpha() and digits.isdecimal() and len(digits) <= _MAX_DIGITS
    return int(digits) if is_answer else None


def _rows_in_response(found: RunResult, kind: str) -> int | None:
    """Read the number of rows from an adapter's response; a negative one means that the database did not say."""
    rows = (found.adapter_response or {}).get("rows_affected")
    if kind not in _COUNTED or isinstance(rows, bool) or not isinstance(rows, (int, float)):
        return None
    return int(rows) if 0 <= rows < 2**_MAX_BITS else None


def _failures(status: str, kind: str, count: int | None) -> int | None:
    """Return the number of failures, where it means something: dbt writes 0 for everything that is not a test."""
    if kind not in TESTS or status not in _COUNTS_FAILURES or count is None:
        return None
    return count if count.bit_length() <= _MAX_BITS else None


# 2026-11-21T08:06:47.050511, as dbt-core writes the times of nodes.
_NAIVE_LENGTH: Final = 26
_parsed: Final = datetime.fromisoformat


def moment(written: str | None) -> datetime | None:
    """Read a time as dbt writes it: ISO 8601, in UTC whether it says so or not."""
    if not written:
        return None
    try:
        if len(written) == _NAIVE_LENGTH:
            return _parsed(written + "+00:00")
        if written[-1] == "Z":
            written = written[:-1]
        if written[-6:-5] in "+-":
            return _parsed(written).astimezone(timezone.utc)
        return _parsed(written + "+00:00")
    except (ValueError, OverflowError):
        return None
