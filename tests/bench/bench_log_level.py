"""
What dbt's log level costs, and what it gives: `python tests/bench/bench_log_level.py [--models 200 1000] [--runs 3]`.

A generated project of trivial views, one test each, on duckdb; one model in fifty fails. The real dbt builds it at info,
at debug, and at info with the error texts added by a callback inside dbt's own process, in turn, into a pipe that is
read as the producer reads a pod. Trivial views are the worst case: dbt's own work is all there is. Figures are the
medians of the runs: CPU seconds of dbt (`wait4`) and of the reading, wall seconds, lines, bytes, and how many seconds
after a model's failure its error text is there. `nox -s bench` runs a short form.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE = 64 * 1024
_FAILS_EACH = 50
_FLAGS = (
    "--log-format",
    "json",
    "--log-level-file",
    "none",
    "--no-use-colors",
    "--no-send-anonymous-usage-stats",
)
# The third way: dbt's library writes info, and a callback writes the one debug event that holds the error text.
_WITH_CALLBACK = """
import sys
from dbt.cli.main import dbtRunner
from google.protobuf.json_format import MessageToJson

def tell(event):
    if event.info.name == "CatchableExceptionOnRun":
        print(MessageToJson(event, preserving_proto_field_name=True, indent=None), flush=True)

result = dbtRunner(callbacks=[tell]).invoke(sys.argv[1:])
sys.exit(0 if result.success else 1 if result.exception is None else 2)
"""
LEVELS = ("info", "debug", "info + callback")
FIGURES = ("dbt_cpu_s", "reader_cpu_s", "wall_s", "lines", "mb", "text_late_s")


def write_project(directory: Path, models: int) -> None:
    """Write the dbt project: layers of views, each with a test of its column, some of them broken."""
    (directory / "models").mkdir()
    (directory / "dbt_project.yml").write_text(
        "name: bench\nprofile: bench\nconfig-version: 2\nflags: {send_anonymous_usage_stats: false}\n"
    )
    (directory / "profiles.yml").write_text(
        "bench:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: bench.duckdb}\n"
    )
    described = []
    for number in range(models):
        parent = number // 10
        # A broken model is a leaf without a test: nothing is skipped, so that all levels build the same nodes.
        broken = number % _FAILS_EACH == _FAILS_EACH - 1 and number * 10 >= models
        if number and (parent % _FAILS_EACH != _FAILS_EACH - 1 or parent * 10 < models):
            source = f"{{{{ ref('model_{parent:04}') }}}}"
        else:
            source = "(select 1 as id)"
        column = "no_such_column" if broken else "id"
        (directory / "models" / f"model_{number:04}.sql").write_text(
            f"select {column} as id\nfrom {source} as parent\n"
        )
        if not broken:
            described.append(
                {"name": f"model_{number:04}", "columns": [{"name": "id", "data_tests": ["not_null"]}]}
            )
    # JSON is YAML.
    (directory / "models" / "models.yml").write_text(json.dumps({"version": 2, "models": described}))


def command_of(level: str, python: str, threads: int) -> list[str]:
    """Return the arguments of one build."""
    dbt = [str(Path(python).with_name("dbt"))]
    if level == "info + callback":
        dbt, level = [python, "-c", _WITH_CALLBACK], "info"
    return [*dbt, *_FLAGS, "--log-level", level, "build", "--threads", str(threads)]


def run(command: list[str], directory: Path) -> dict[str, float]:
    """Build the project once, reading along as the producer does."""
    for database in directory.glob("bench.duckdb*"):
        database.unlink()
    stream = LogStream(Ledger())
    failed: dict[str, float] = {}
    late: dict[str, float] = {}
    size = lines = 0
    reader, writer = os.pipe()
    here = Path.cwd()
    began, reading_began = time.monotonic(), time.thread_time()
    os.chdir(directory)
    try:
        pid = os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_CLOSE, reader)],
        )
    finally:
        os.chdir(here)
        os.close(writer)
    while piece := os.read(reader, _PIECE):
        size += len(piece)
        lines += piece.count(b"\n")
        now = time.monotonic()
        for change in stream.feed(piece).changes:
            if change.is_failure:
                first = failed.setdefault(change.unique_id, now)
                if change.message:
                    late.setdefault(change.unique_id, now - first)
    os.close(reader)
    reading = time.thread_time() - reading_began
    _, status, usage = os.wait4(pid, 0)
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code != 1 or not failed or failed.keys() != late.keys():
        sys.exit(
            f"dbt did not do what was expected: exit code {exit_code}, {len(failed)} failed, {len(late)} with a text"
        )
    return {
        "dbt_cpu_s": usage.ru_utime + usage.ru_stime,
        "reader_cpu_s": reading,
        "wall_s": time.monotonic() - began,
        "lines": lines,
        "mb": size / 1e6,
        "text_late_s": statistics.median(late.values()),
    }


def compare(models: int, runs: int, python: str, threads: int) -> list[dict[str, object]]:
    """Build one project at all levels in turn; give a row of medians for each level."""
    measured: dict[str, list[dict[str, float]]] = {level: [] for level in LEVELS}
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        write_project(directory, models)
        # The first run parses the project, the others find it parsed; it is not counted.
        run([*command_of("info", python, threads), "--select", "model_0049"], directory)
        for turn in range(runs):
            # The level that comes first changes, since what else the machine does comes and goes.
            for level in (*LEVELS[turn % len(LEVELS) :], *LEVELS[: turn % len(LEVELS)]):
                measured[level].append(run(command_of(level, python, threads), directory))
                sys.stderr.write(
                    f"{models} models, {level}: {measured[level][-1]}; load {os.getloadavg()[0]:.1f}\n"
                )
    return [_row(models, level, measured[level], measured["info"]) for level in LEVELS]


def _row(
    models: int, level: str, runs: list[dict[str, float]], at_info: list[dict[str, float]]
) -> dict[str, object]:
    row: dict[str, object] = {"models": models, "level": level, "runs": len(runs)}
    for figure in FIGURES:
        row[figure] = round(statistics.median(one[figure] for one in runs), 2)
    ratios = [one["dbt_cpu_s"] / other["dbt_cpu_s"] for one, other in zip(runs, at_info, strict=True)]
    row["dbt_cpu_of_info"] = round(statistics.median(ratios), 3)
    return row


def table(rows: Iterable[dict[str, object]]) -> str:
    """Return the figures as a table of Markdown."""
    rows = list(rows)
    names = [
        "models",
        "log level",
        "runs",
        "dbt, CPU s",
        "reading, CPU s",
        "wall s",
        "lines",
        "MB",
        "error text after, s",
        "dbt's CPU, info = 1",
    ]
    cells = [names, ["---"] * len(names), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=int, nargs="+", default=[100], help="sizes of the project, each at least 50"
    )
    parser.add_argument("--runs", type=int, default=1, help="builds at each level")
    parser.add_argument("--threads", type=int, default=4, help="of dbt")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter beside which dbt with dbt-duckdb is installed",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    if min(options.models) < _FAILS_EACH:
        parser.error(f"--models: at least {_FAILS_EACH}, so that one of them fails")
    rows = [
        row
        for models in options.models
        for row in compare(models, options.runs, options.python, options.threads)
    ]
    sys.stdout.write((json.dumps({"log_level": rows}) if options.json else table(rows)) + "\n")


if __name__ == "__main__":
    main()
