"""
`dbt-watch replay`: a recorded log of dbt as a table of its nodes.

The command line (`dbt_watch.cli`) calls `add_arguments` and `run`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.labels import label_of
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.log.task_log import MAX_LINE_CHARS
from dbt_watch.core.text import printable
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    import argparse
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from dbt_watch.core.results import NodeResult, SelectedNode

_PIECE: Final = 1 << 20
_MESSAGE_CHARS: Final = 80
_COLUMNS: Final = ("node", "status", "seconds", "rows", "message")
_CANNOT_READ: Final = 2
# The types that a build may run; a log reports no other.
_RUNNABLE: Final = frozenset(
    {"model", "test", "unit_test", "seed", "snapshot", "function", "saved_query", "exposure"}
)

DESCRIPTION: Final = """\
Show what happened to each dbt node, from a dbt log in JSON
(`--log-format json`), such as the log of a pod.

It prints a table with a line for each node, and the outcome of the run:
success, failure (a node failed), or error (dbt stopped early).

Exit status: 0 if the log could be read, whatever it says; 2 if not.
"""
EXAMPLE: Final = "dbt-watch replay run.jsonl --manifest target/manifest.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("log", metavar="LOG", help="the file with the log; - for standard input")
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="the project's manifest.json; adds the nodes missing from the log",
    )
    parser.add_argument(
        "--run-results",
        metavar="FILE",
        help="the run_results.json of the same run; adds what the log lacks",
    )
    parser.add_argument(
        "--exit-code",
        type=int,
        default=None,
        metavar="N",
        help="dbt's exit code (default: derived from the log)",
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="table (the default), or one JSON object"
    )


def run(args: argparse.Namespace) -> int:
    """
    Print what became of each node.

    :param args: what `add_arguments` has asked for
    :returns: 0 when the log was read, whatever it tells; 2 when something could not be read
    """
    try:
        graph = _graph(args.manifest) if args.manifest else None
        log = sys.stdin.buffer.read() if args.log == "-" else Path(args.log)
        found = replay(log, graph=graph, run_results=args.run_results, exit_code=args.exit_code)
    except (OSError, ArgumentError) as error:
        sys.stderr.write(f"dbt-watch replay: {printable(str(error), MAX_LINE_CHARS)}\n")
        return _CANNOT_READ
    text = json.dumps(found) if args.format == "json" else table(found)
    sys.stdout.write(text + "\n")
    return 0


def replay(
    log: str | os.PathLike[str] | bytes,
    *,
    graph: Mapping[str, SelectedNode] | None = None,
    run_results: str | os.PathLike[str] | None = None,
    exit_code: int | None = None,
) -> dict[str, Any]:
    """
    Read a log of dbt, and return how each node ended.

    :param log: the log, or a path to it; of any size
    :param graph: the nodes that were to run, by unique_id; without it only those are known that dbt reported
    :param run_results: a path to the run_results.json or sources.json of the same run
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
    stream.close(exit_code, Path(run_results).read_bytes() if run_results is not None else None)
    return {
        "nodes": {unique_id: entry.to_dict() for unique_id, entry in ledger.entries.items()},
        "outcome": _outcome(ledger.entries.values(), exit_code),
    }


def _outcome(entries: Iterable[NodeResult], exit_code: int | None) -> str:
    """Return the outcome of a run in one word: "success", "failure" or "error"."""
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


def table(found: Mapping[str, Any]) -> str:
    """Return what `replay` found as a table: a line for each node, and one with the outcome."""
    rows = [_COLUMNS, *(_row(unique_id, node) for unique_id, node in found["nodes"].items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    right = {_COLUMNS.index("seconds"), _COLUMNS.index("rows")}
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, f"outcome: {found['outcome']}"])


def _row(unique_id: str, node: Mapping[str, Any]) -> tuple[str, ...]:
    seconds, rows = node.get("execution_time"), node.get("rows_affected")
    message = node.get("message") or ", ".join(map(label_of, node.get("skipped_because", ())))
    return (
        printable(unique_id, 200),
        printable(node["status"], 40),
        "" if seconds is None else f"{seconds:.2f}",
        "" if rows is None else str(rows),
        printable(" ".join(message.split()), _MESSAGE_CHARS),
    )


def _graph(manifest: str) -> dict[str, SelectedNode]:
    # Imported late: reading a log needs no manifest.
    from dbt_watch.core.manifest.load import load_manifest  # noqa: PLC0415

    nodes = load_manifest(manifest).nodes
    return {unique_id: node for unique_id, node in nodes.items() if node.resource_type in _RUNNABLE}
