"""
`dbt-watch report`: what became of one run of dbt, why, and where the time went. Called by `dbt_watch.cli`.

Exit status: 0; 2 when there is no report to be had.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from dbt_watch.core.log.task_log import MAX_LINE_CHARS
from dbt_watch.core.text import printable
from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.reporting.assembly import record_of, with_comparison
from dbt_watch.reporting.evidence import Evidence, of_attempts
from dbt_watch.reporting.html import page_of
from dbt_watch.reporting.manifests import manifest_at
from dbt_watch.reporting.sources import read_source
from dbt_watch.reporting.svg import picture_of
from dbt_watch.reporting.tables import csv_of
from dbt_watch.reporting.terminal import COLUMNS, summary_of

if TYPE_CHECKING:
    import argparse

    from dbt_watch.reporting.manifests import ManifestFacts
    from dbt_watch.reporting.run_record import RunRecord

DESCRIPTION: Final = """\
Show how one dbt run ended, and why: the root causes, each with dbt's error and
what was not built because of it; where the time went, by thread, with the
critical path; and what differs from another run.

FILE is a dbt log in JSON (`--log-format json`), a run_results.json, a
producer's journal, or the JSON of an earlier report. Several files are the
attempts of one run, in order. With --dag-run, a DAG run is read from Airflow.

Exit status: 0 if there is a report, whatever it says; 2 if not.
"""
EXAMPLE: Final = "dbt-watch report run.jsonl --manifest target/manifest.json --html report.html"

CANNOT_REPORT: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="see above; - for standard input")
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="path or URL of the project's manifest.json; adds dependencies, files, descriptions and columns",
    )
    parser.add_argument(
        "--run-results",
        metavar="FILE",
        help="with a single log: the run_results.json of the same run; adds what the log lacks",
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        help="another run, like FILE: show what became slower since, and what failed",
    )
    parser.add_argument("--html", metavar="FILE", help="also write the report to a file, as one page")
    parser.add_argument("--svg", metavar="FILE", help="also draw the timeline into a file")
    parser.add_argument(
        "--format",
        choices=("summary", "json", "csv"),
        default="summary",
        help="summary (the default); json: one JSON object, which FILE and --compare accept; csv: a line for each node",
    )
    parser.add_argument("--all", action="store_true", help="show all causes, nodes and lines in the summary")
    _add_airflow(parser)


def _add_airflow(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a DAG run",
        "The token for Airflow's API is read from the environment variable DBT_WATCH_AIRFLOW_TOKEN.",
    )
    group.add_argument(
        "--dag-run", nargs=2, metavar=("DAG_ID", "RUN_ID"), help="the DAG run, instead of FILE"
    )
    group.add_argument("--airflow", metavar="URL", help="the address of Airflow's web interface")
    group.add_argument(
        "--project", metavar="GROUP_ID", help="the project's task group, if the DAG has several"
    )
    group.add_argument("--map-index", type=int, metavar="N", help="which instance of a mapped project")


def run(args: argparse.Namespace) -> int:
    """
    Print and write a report.

    :param args: what `add_arguments` has asked for
    :returns: the exit status
    """
    try:
        record = _record(args)
        if args.html is not None:
            Path(args.html).write_text(page_of(record), encoding="utf-8")
        if args.svg is not None:
            Path(args.svg).write_text(picture_of(record), encoding="utf-8")
    except (DbtWatchError, OSError) as error:
        sys.stderr.write(f"dbt-watch report: {printable(' '.join(str(error).split()), MAX_LINE_CHARS)}\n")
        return CANNOT_REPORT
    _print(record, args)
    return 0


def _print(record: RunRecord, args: argparse.Namespace) -> None:
    if args.format == "json":
        sys.stdout.write(f"{record.to_json().decode()}\n")
    elif args.format == "csv":
        sys.stdout.write(csv_of(record))
    else:
        console = Console(highlight=False, markup=False, emoji=False)
        # Where there is no terminal, whose width would tell, lines are as long as they are anywhere.
        console.width = min(console.width, COLUMNS) if console.is_terminal else COLUMNS
        console.print(summary_of(record, everything=args.all))


def _record(args: argparse.Namespace) -> RunRecord:
    if bool(args.files) == (args.dag_run is not None):
        raise ArgumentError("FILE", args.files or None, "either a file or --dag-run DAG_ID RUN_ID")
    manifest = manifest_at(args.manifest) if args.manifest is not None else None
    record = _of_dag_run(args, manifest) if args.dag_run is not None else _of_files(args, manifest)
    if args.compare is not None:
        other = read_source(_content(args.compare), args.compare, {})
        record = with_comparison(record, record_of(other) if isinstance(other, Evidence) else other)
    return record


def _of_files(args: argparse.Namespace, manifest: ManifestFacts | None) -> RunRecord:
    for name, value in _of_airflow(args).items():
        raise ArgumentError(name, value, "--dag-run as well")
    nodes = manifest.runnable if manifest is not None else {}
    if args.run_results is not None and len(args.files) > 1:
        raise ArgumentError(
            "--run-results", args.run_results, "a single log as FILE, to which it adds what is missing"
        )
    run_results = _content(args.run_results) if args.run_results is not None else None
    found = [
        read_source(_content(file), file, nodes, attempt=number, run_results=run_results)
        for number, file in enumerate(args.files, 1)
    ]
    parts = [part for part in found if isinstance(part, Evidence)]
    if len(parts) == len(found):
        source = parts[0].source if len(parts) == 1 else f"the attempts {', '.join(args.files)}"
        return record_of(of_attempts(parts, source), manifest)
    record = found[0]
    if len(found) > 1 or manifest is not None or isinstance(record, Evidence):
        raise ArgumentError(
            "FILE", args.files, "the JSON of an earlier report on its own, since it is complete"
        )
    return record


def _of_dag_run(args: argparse.Namespace, manifest: ManifestFacts | None) -> RunRecord:
    # Only here: it takes a client for HTTP, which is slow to import.
    from dbt_watch.reporting.dag_runs import TOKEN_VARIABLE, evidence_of_dag_run  # noqa: PLC0415

    if args.airflow is None:
        raise ArgumentError("--airflow", None, "the URL of Airflow, such as https://airflow.example")
    if args.run_results is not None:
        raise ArgumentError(
            "--run-results", args.run_results, "a dbt log as FILE, to which it adds what is missing"
        )
    dag_id, run_id = args.dag_run
    evidence = evidence_of_dag_run(
        args.airflow,
        dag_id,
        run_id,
        token=os.environ.get(TOKEN_VARIABLE),
        group=args.project,
        map_index=args.map_index,
    )
    return record_of(evidence, manifest)


def _of_airflow(args: argparse.Namespace) -> dict[str, object]:
    given = {"--airflow": args.airflow, "--project": args.project, "--map-index": args.map_index}
    return {name: value for name, value in given.items() if value is not None}


def _content(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
