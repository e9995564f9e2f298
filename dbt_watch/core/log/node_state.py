"""
What the ledger remembers of one node beyond the entry that it shows.

`core.log.ledger` writes it; `core.log.entries` and `core.log.end_of_run` read it.
"""

from __future__ import annotations

import msgspec

from dbt_watch.core.results import Batch, NodeResult
from dbt_watch.core.statuses import is_known


class Slot(msgspec.Struct, gc=False):
    """
    One node, within one dbt command.

    Its `result` survives the command: when a later command of the same log builds the node again, the final result
    of the earlier one stays until the later one has its own.

    :param unique_id: the node
    :param invocation: the dbt command
    :param latest: the time of its latest event, as dbt writes it; what is older belongs to an earlier command
    :param result: its entry
    :param over: whether this command has finished the node
    :param began: `node_started_at` of the node itself, not of a batch; empty until known
    :param text: the error that dbt reported before it reported the end
    :param hint: status and text inferred from other events; used when the end itself is never seen
    :param is_counted: whether dbt has given it a number, "3 of 40"
    :param cancelled: whether dbt cancelled its query
    :param batches: of a microbatch model, by number
    :param batch_count: how many batches there are
    """

    unique_id: str
    invocation: str
    latest: str = ""
    result: NodeResult | None = None
    over: bool = False
    began: str = ""
    text: str | None = None
    hint: tuple[str, str | None] | None = None
    is_counted: bool = False
    cancelled: bool = False
    batches: dict[int, Batch] | None = None
    batch_count: int | None = None

    def begin(self, invocation: str) -> None:
        """Reset everything but the result for another dbt command."""
        self.invocation = invocation
        self.over = self.cancelled = self.is_counted = False
        self.began = ""
        self.text = self.hint = self.batches = self.batch_count = None

    @property
    def shows_final(self) -> bool:
        """Whether the result shown is final, of whatever command."""
        return self.result is not None and self.result.is_final

    @property
    def is_hook(self) -> bool:
        """Whether it is a hook of the project; dbt counts hooks apart."""
        return self.unique_id.startswith("operation.")

    @property
    def is_told(self) -> bool:
        """Whether this command has reported how the node ended, even by an unknown status."""
        if self.is_hook:
            return False
        is_own = self.result is not None and self.result.invocation_id == self.invocation
        is_unknown = is_own and self.result is not None and not is_known(self.result.status)
        return self.over or self.hint is not None or is_unknown
