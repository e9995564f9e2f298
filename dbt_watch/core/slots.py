"""
What the ledger remembers of one node beyond the result that it shows, and small readings of dbt's fields.

Called by `core.ledger` and `core.endings` only.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final

import msgspec

from dbt_watch.core.events import RunResult
from dbt_watch.core.results import Batch, NodeResult


class Slot(msgspec.Struct, gc=False):
    """
    One node, within one dbt command.

    Its `result` survives the command: when a later command of the same log builds the node again, the final result
    of the earlier one stays until the later one has its own.

    :param unique_id: the node
    :param invocation: the dbt command
    :param latest: the time of its latest event, as dbt writes it; by it, events of an earlier command are told
    :param result: what is shown
    :param path: its file, as dbt's events have it
    :param over: whether this command has finished the node
    :param began: `node_started_at` of the node itself, not of a batch; empty until known
    :param text: the error that dbt reported before it reported the end
    :param hint: what other events let suppose of the end: a status and a text; used when the end itself is never seen
    :param cancelled: whether dbt cancelled its query
    :param batches: of a microbatch model, by number
    :param batch_count: how many batches there are
    """

    unique_id: str
    invocation: str
    latest: str = ""
    result: NodeResult | None = None
    path: str = ""
    over: bool = False
    began: str = ""
    text: str | None = None
    hint: tuple[str, str | None] | None = None
    cancelled: bool = False
    batches: dict[int, Batch] | None = None
    batch_count: int | None = None

    def begin(self, invocation: str) -> None:
        """Forget what an earlier dbt command left here, except its result."""
        self.invocation = invocation
        self.over = self.cancelled = False
        self.began = ""
        self.text = self.hint = self.batches = self.batch_count = None

    @property
    def shows_final(self) -> bool:
        """Whether the result shown is final, of whatever command."""
        return self.result is not None and self.result.is_final


_ROWS: Final = re.compile(r"[A-Z][A-Z ]*?(?: 0)? (\d{1,18})")
_COUNTED: Final = frozenset({"model", "seed", "snapshot"})
_TESTS: Final = frozenset({"test", "unit_test"})


def rows_in_text(text: str | None, resource_type: str) -> int | None:
    """Read the number of rows from a database's answer such as "SELECT 100", "INSERT 0 100" or "SUCCESS 100"."""
    if not text or not text[-1].isdigit() or resource_type not in _COUNTED:
        return None
    match = _ROWS.fullmatch(text)
    return int(match[1]) if match else None


def rows_in_response(run_result: RunResult, resource_type: str) -> int | None:
    """Read the number of rows from an adapter's answer; a negative one means that the database did not say."""
    rows = (run_result.adapter_response or {}).get("rows_affected")
    if resource_type not in _COUNTED or isinstance(rows, bool) or not isinstance(rows, (int, float)):
        return None
    return int(rows) if 0 <= rows < 2**63 else None


def failures_of(status: str, resource_type: str, count: int | None) -> int | None:
    """Give the number of failures, where it means something: dbt writes 0 for everything that is not a test."""
    if resource_type not in _TESTS or status not in _COUNTS_FAILURES or count is None:
        return None
    return count if count.bit_length() <= _MAX_BITS else None


_COUNTS_FAILURES: Final = frozenset({"pass", "warn", "fail"})
_MAX_BITS: Final = 63


def moment(written: str | None) -> datetime | None:
    """Read a time as dbt writes it: ISO 8601, in UTC whether it says so or not."""
    if not written:
        return None
    try:
        if written[-1] == "Z":
            written = written[:-1]
        if written[-6:-5] in "+-":
            return datetime.fromisoformat(written).astimezone(timezone.utc)
        return datetime.fromisoformat(written + "+00:00")
    except (ValueError, OverflowError):
        return None
