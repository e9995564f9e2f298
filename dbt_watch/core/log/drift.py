"""
Compares the manifest that the tasks are made from with the project that dbt ran, and says what a difference means.

`producers.build_watch` asks at the end of an attempt; `authoring.settings` checks `on_drift`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from dbt_watch.core.log.end_of_run import NEVER_RUN
from dbt_watch.core.log.stale_sources import MAX_NAMES
from dbt_watch.core.results import NotRun
from dbt_watch.core.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult

OnDrift = Literal["warn", "fail"]
ON_DRIFT: Final[tuple[OnDrift, ...]] = ("warn", "fail")


class Drift(msgspec.Struct, frozen=True):
    """
    What happens when the two differ.

    :param elsewhere: the nodes of the project that have a task and that this attempt does not build; dbt reports them in
        the log of a pod that was taken over
    :param on_drift: "warn": nothing more than a warning; "fail": the attempt fails
    """

    elsewhere: tuple[str, ...] = ()
    on_drift: OnDrift = "warn"

    def between(self, nodes: Collection[str], entries: Mapping[str, NodeResult]) -> str:
        """
        Return in words how the two differ; empty when they do not, as far as a log can tell.

        :param nodes: those of the attempt
        :param entries: those of all nodes, none of which is open
        """
        expected = {*nodes, *self.elsewhere}
        only_in = {
            "the manifest": [
                entry
                for key, entry in entries.items()
                if entry.not_run is NotRun.NOT_IN_PROJECT and key in nodes
            ],
            "the project that dbt ran": [
                entry
                for key, entry in entries.items()
                if key not in expected and entry.resource_type not in _NEVER_MISSED
            ],
        }
        parts = [f"only in {where}: {_names(found)}" for where, found in only_in.items() if found]
        return f"the manifest and the project that dbt ran differ; {'; '.join(parts)}" if parts else ""

    def end(self, closed: Closed, differences: str) -> Closed:
        """
        Return how an attempt ends: badly when a difference is a failure, even where dbt ended well.

        :param closed: how dbt ended
        :param differences: see `between`
        """
        if self.on_drift == "warn" or not differences or closed.exit_code not in {0, 1}:
            return closed
        return msgspec.structs.replace(closed, exit_code=1, reason=closed.reason or differences)


# These have no task, or dbt need not report them.
_NEVER_MISSED: Final = NEVER_RUN | {"source"}


def _names(entries: Collection[NodeResult]) -> str:
    names = sorted(entry.label for entry in entries)
    return sanitize(
        ", ".join(names[:MAX_NAMES])
        + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
    )
