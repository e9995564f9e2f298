"""
What the check of sources means for an attempt: for the nodes that read from them, and for how it ends.

The script in the container leaves out of the build what reads from stale sources, and dbt itself may leave out what reads no newer
data, so dbt reports nothing of these nodes. `core.log.ledger` asks when
the log is closed, and `producers.build_watch` for the end of the attempt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.results import NotRun

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult

OnStale = Literal["fail", "skip"]
ON_STALE: Final[tuple[OnStale, ...]] = ("fail", "skip")

MAX_NAMES: Final = 10


class StaleSources(msgspec.Struct, frozen=True):
    """
    What happens when a source turns out to be stale, or cannot be checked.

    :param readers: for each source that the attempt checks, those of its nodes that read from it, directly or not
    :param on_stale: "fail": they count as skipped because of it, and the attempt fails; "skip": they are left out
    :param left_to_dbt: why dbt may leave out nodes of the attempt, in words; empty where it builds all of them
    """

    readers: Mapping[str, tuple[str, ...]] = {}
    on_stale: OnStale = "fail"
    left_to_dbt: str = ""

    def held_back(self, entries: Mapping[str, NodeResult]) -> list[NodeResult]:
        """
        Return the entries of the nodes that were not built because of a source: it is stale, or has no newer data.

        :param entries: those of all nodes, none of which is open
        """
        because: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
        for source in self._failed(entries):
            for reader in self.readers[source]:
                if entries[reader].was_not_run:
                    because[reader] += (source,)
        held = [self._held_back(entries[reader], sources, entries) for reader, sources in because.items()]
        return [*held, *self._left_out(entries, because)]

    def _left_out(self, entries: Mapping[str, NodeResult], others: Collection[str]) -> Iterable[NodeResult]:
        """Yield the nodes that dbt has not selected: it has reported all that it counted, and these are not among them."""
        for unique_id, entry in entries.items():
            if self.left_to_dbt and entry.not_run is NotRun.NOT_IN_PROJECT and unique_id not in others:
                yield msgspec.structs.replace(entry, message=self.left_to_dbt, not_run=NotRun.LEFT_OUT)

    def _held_back(
        self, entry: NodeResult, sources: tuple[str, ...], entries: Mapping[str, NodeResult]
    ) -> NodeResult:
        found = [entries[source] for source in sources]
        text = ", ".join(f"source `{source.label}` {_FAULTS[source.status][0]}" for source in found)
        return msgspec.structs.replace(entry, message=text, **_ENDINGS[self.on_stale](sources))

    def end(self, closed: Closed, entries: Mapping[str, NodeResult]) -> Closed:
        """
        Return how an attempt ends: badly when a stale source is a failure, even where the build ended well.

        :param closed: how dbt ended
        :param entries: what is known of each node
        """
        failed = self._failed(entries)
        if self.on_stale == "skip" or not failed or closed.exit_code not in {0, 1}:
            return closed
        return msgspec.structs.replace(
            closed, exit_code=1, reason=closed.reason or _summary(entries[source] for source in failed)
        )

    def _failed(self, entries: Mapping[str, NodeResult]) -> list[str]:
        return [
            source
            for source in self.readers
            if (entry := entries.get(source)) is not None and entry.status in _FAULTS
        ]


_ENDINGS: Final[dict[OnStale, Callable[[tuple[str, ...]], dict[str, Any]]]] = {
    "fail": lambda sources: {"status": statuses.SKIPPED, "skipped_because": sources, "not_run": None},
    "skip": lambda _: {"status": statuses.NOT_RUN, "not_run": NotRun.STALE_SOURCE},
}

# What these statuses of a source mean, for one and for several. The script in the container acts on the same two.
_FAULTS: Final = {
    "error": ("is stale", "are stale"),
    "runtime error": ("could not be checked", "could not be checked"),
}


def fault_of(status: str) -> str:
    """Return what a status of one source means in words; nothing where it means no fault."""
    return _FAULTS.get(status, ("", ""))[0]


def _summary(failed: Iterable[NodeResult]) -> str:
    named: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for source in failed:
        named[_FAULTS[source.status]].append(source.label)
    return "; ".join(
        (f"1 source {of_one}" if len(names) == 1 else f"{len(names)} sources {of_several}")
        + f": {', '.join(names[:MAX_NAMES])}"
        + (" ..." if len(names) > MAX_NAMES else "")
        for (of_one, of_several), names in named.items()
    )
