"""
A whole log read at once: what `dbt-watch replay` prints.

Usable on its own: `replay("dbt.log")`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from dbt_watch.core.results import NodeResult, SelectedNode

_PIECE: Final = 1 << 20


def replay(
    log: str | os.PathLike[str] | bytes,
    *,
    graph: Mapping[str, SelectedNode] | None = None,
    run_results: str | os.PathLike[str] | bytes | None = None,
    exit_code: int | None = None,
) -> dict[str, Any]:
    """
    Read a log of dbt and say how each node ended.

    :param log: the log, or a path to it; of any size
    :param graph: the nodes that were to run, by unique_id; without it only those are known that dbt reported
    :param run_results: the run_results.json or sources.json of the same run, or a path to it
    :param exit_code: dbt's; None when it is not known, then it is told from the log, if dbt wrote its summary there
    :returns: JSON-able: `nodes`, for each unique_id the fields of `NodeResult`, and `outcome`, one of "success",
        "failure" (a node failed) and "error" (dbt broke off, or was ended)
    :raises OSError: a file cannot be read
    """
    ledger = Ledger(graph)
    stream = LogStream(ledger)
    for piece in _pieces(log):
        stream.feed(piece)
    if exit_code is None and ledger.run.has_summary:
        exit_code = int(any(entry.is_failure for entry in ledger.entries.values()))
    stream.close(exit_code, _content(run_results))
    return {
        "nodes": {unique_id: entry.to_dict() for unique_id, entry in ledger.entries.items()},
        "outcome": outcome_of(ledger.entries.values(), exit_code),
    }


def outcome_of(entries: Iterable[NodeResult], exit_code: int | None) -> str:
    """Give the outcome of a run in one word: "success", "failure" or "error"."""
    if exit_code == 0:
        return "success"
    if exit_code == 1 and any(entry.is_failure for entry in entries):
        return "failure"
    return "error"


def _pieces(log: str | os.PathLike[str] | bytes) -> Iterator[bytes]:
    if isinstance(log, bytes):
        yield log
        return
    with Path(log).open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _content(source: str | os.PathLike[str] | bytes | None) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()
