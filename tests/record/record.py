"""
Record what dbt writes: `python tests/record/record.py [--versions 1.8 1.12] [--scenarios ok fail] [--out tests/recordings]`.

Each version of dbt-core, with duckdb, gets an environment of its own, builds the example project in each scenario, and
leaves in the directory what the tests of the log core read: the standard output byte for byte, what dbt concluded, the
graph of the project reduced to what the ledger reads, and a row in `index.json`. Paths of this machine are replaced.
To extend the corpus, add a row to `SCENARIOS`, or a version to `VERSIONS`. `nox -s record` runs it; it needs `uv`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "examples" / "jaffle_shop"
ADAPTER = "duckdb"

# Of each version, the packages to leave out. From 1.12 on, dbt-core names one that it does without unless asked for, and
# whose source build downloads from the network.
VERSIONS: dict[str, tuple[str, ...]] = {
    "1.8": (),
    "1.9": (),
    "1.10": (),
    "1.11": (),
    "1.12": ("dbt-core-experimental-parser",),
    "1.13": ("dbt-core-experimental-parser",),
}
_BROKEN = ("--vars", '{"break_model": "orders"}')
_SECTIONS = (
    "nodes",
    "sources",
    "unit_tests",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "functions",
)
# What stands in a recording instead of the directories of the machine that records.
_PROJECT_PATH = "/usr/app/jaffle_shop"
_ENVIRONMENT_PATH = "/usr/app/dbt"


class Scenario(NamedTuple):
    """
    A run of dbt worth recording.

    :param exit_code: what dbt is expected to say; any other is reported, and nothing is kept
    :param level: the log level
    :param arguments: of the sub-command
    :param sub_command: what is recorded
    :param before: a sub-command to run first, which is not recorded
    :param then: a sub-command to run after it, whose log follows in the same recording; its exit code is the one that counts
    :param artifact: what dbt concludes, under `target/`
    :param files: what is added to the project, by path
    """

    exit_code: int
    level: str
    arguments: tuple[str, ...] = ()
    sub_command: tuple[str, ...] = ("build",)
    before: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    artifact: str = "run_results.json"
    files: Mapping[str, str] = MappingProxyType({})


# A source of each state of freshness: fresh, late enough for a warning, too late, and not there.
_SOURCES = """
version: 2
sources:
  - name: recorded
    schema: main
    freshness: {warn_after: {count: 1, period: day}}
    loaded_at_field: "cast('2026-01-01 12:00:00' as timestamp)"
    tables:
      - {name: fresh, identifier: raw_orders, loaded_at_field: cast(now() at time zone 'UTC' as timestamp)}
      - {name: late, identifier: raw_customers}
      - {name: too_late, identifier: raw_payments, freshness: {error_after: {count: 2, period: day}}}
      - {name: missing, identifier: no_such_table}
"""

# A model behind each of them, and one behind two.
_READERS = {
    "models/read_fresh.sql": "select * from {{ source('recorded', 'fresh') }}",
    "models/read_late.sql": "select * from {{ source('recorded', 'late') }}",
    "models/read_too_late.sql": "select * from {{ source('recorded', 'too_late') }}",
    "models/read_missing.sql": "select * from {{ source('recorded', 'missing') }}",
    "models/read_both.sql": "select 1 as one from {{ ref('read_fresh') }}, {{ ref('read_too_late') }}",
}

SCENARIOS = {
    "ok": Scenario(0, "info"),
    "ok_debug": Scenario(0, "debug"),
    "fail": Scenario(1, "info", _BROKEN),
    "fail_debug": Scenario(1, "debug", _BROKEN),
    "failfast": Scenario(1, "info", ("--fail-fast", *_BROKEN)),
    "freshness": Scenario(
        1,
        "info",
        sub_command=("source", "freshness"),
        before=("seed",),
        artifact="sources.json",
        files={"models/recorded_sources.yml": _SOURCES},
    ),
    # What the container does before a build when two of the sources are stale.
    "freshness_build": Scenario(
        0,
        "info",
        sub_command=("source", "freshness"),
        before=("seed",),
        then=(
            "build",
            "--exclude",
            "source:jaffle_shop.recorded.missing+",
            "source:jaffle_shop.recorded.too_late+",
        ),
        files={"models/recorded_sources.yml": _SOURCES, **_READERS},
    ),
}


def environment(version: str, directory: Path) -> Path:
    """Make the environment of a version, unless it is there; return the path of its `dbt`."""
    home = directory / version
    dbt = home / "bin" / "dbt"
    if not dbt.exists():
        left_out = directory / f"{version}-left-out.txt"
        left_out.parent.mkdir(parents=True, exist_ok=True)
        left_out.write_text(
            "".join(f'{package} ; sys_platform == "never"\n' for package in VERSIONS[version])
        )
        _run([_uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)])
        _run([_uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), "--override", str(left_out),
              # A version of which there are only previews will do.
              f"dbt-core=={version}.*,>={version}.0b1", f"dbt-{ADAPTER}"])  # fmt: skip
    return dbt


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    return found or sys.exit("this needs uv: pip install uv")


def _run(command: list[str], **more: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def record(version: str, scenario: str, dbt: Path, out: Path) -> str:
    """Run dbt once in a copy of the project; keep what it wrote; return the name of the recording."""
    told = SCENARIOS[scenario]
    name = f"{version}__{ADAPTER}__jaffle_{scenario}"
    with tempfile.TemporaryDirectory() as made:
        project = Path(made).resolve() / PROJECT.name
        ignored = shutil.ignore_patterns("target", "logs", "dbt_packages", "*.duckdb*", ".user.yml")
        shutil.copytree(PROJECT, project, ignore=ignored)
        flags = [
            "--log-format",
            "json",
            "--log-level",
            told.level,
            "--log-level-file",
            "none",
            "--no-use-colors",
        ]
        command = ["dbt", *flags, *told.sub_command, *told.arguments]
        # The environment of this shell does not belong into a recording; dbt writes some of it into its log.
        own = {key: value for key, value in os.environ.items() if not key.startswith(("DBT_", "JAFFLE_"))}
        for path, text in told.files.items():
            (project / path).write_text(text)
        if told.before:
            _run([str(dbt), *told.before], cwd=project, env=own)
        arguments = [str(dbt), *command[1:]]
        done = subprocess.run(arguments, cwd=project, env=own, capture_output=True, check=False)
        log = done.stdout
        if told.then:
            arguments = [str(dbt), *flags, *told.then]
            done = subprocess.run(arguments, cwd=project, env=own, capture_output=True, check=False)
            log += done.stdout
        if done.returncode != told.exit_code:
            sys.stderr.buffer.write(log[-4_000:] + done.stderr)
            sys.exit(f"{name}: exit code {done.returncode} instead of {told.exit_code}")
        places = {
            f"{sys.base_prefix}/lib": "/usr/local/lib",
            str(project): _PROJECT_PATH,
            str(dbt.parent.parent): _ENVIRONMENT_PATH,
        }
        (out / f"{name}.jsonl").write_bytes(_neutral(log, places))
        results = _neutral((project / "target" / told.artifact).read_bytes(), places)
        (out / f"{name}.{told.artifact}").write_bytes(results)
        graph = _graph(json.loads((project / "target" / "manifest.json").read_bytes()))
    _add_to_index(out, name, {
        "command": command,
        **({"then": ["dbt", *flags, *told.then]} if told.then else {}),
        "exit_code": done.returncode,
        "artifact": f"{name}.{told.artifact}",
        "graph": _keep_graph(out, graph),
    })  # fmt: skip
    return name


def _neutral(text: bytes, places: dict[str, str]) -> bytes:
    for place, neutral in places.items():
        text = text.replace(place.encode(), neutral.encode())
    return text


def _graph(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Reduce a manifest to what the ledger reads of a node."""
    return {
        unique_id: {
            "name": node["name"],
            "resource_type": node["resource_type"],
            "materialized": node.get("config", {}).get("materialized") or "",
            "depends_on": node.get("depends_on", {}).get("nodes", []),
            **({"is_empty": True} if node.get("raw_code", "x").strip() == "" and section == "nodes" else {}),
        }
        for section in _SECTIONS
        for unique_id, node in sorted(manifest.get(section, {}).items())
    }


def _keep_graph(out: Path, graph: dict[str, dict[str, Any]]) -> str:
    """Write a graph under a name made from its content, so that recordings of one project share it."""
    text = json.dumps(graph, sort_keys=True)
    path = Path("graphs") / f"{PROJECT.name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    (out / path).write_text(text)
    return path.as_posix()


def _add_to_index(out: Path, name: str, row: dict[str, Any]) -> None:
    path = out / "index.json"
    index = json.loads(path.read_text()) if path.exists() else {}
    index[name] = row
    path.write_text(json.dumps(dict(sorted(index.items())), indent=1) + "\n")


def main() -> None:
    """Read the options, record, say what was recorded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--versions", nargs="+", choices=VERSIONS, default=list(VERSIONS), metavar="VERSION")
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), metavar="SCENARIO"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "tests" / "recordings", help="where the recordings go"
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=ROOT / ".nox" / "record-dbt",
        help="where the environments of dbt are kept",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for version in options.versions:
        dbt = environment(version, options.environments.resolve())
        for scenario in options.scenarios:
            name = record(version, scenario, dbt, options.out)
            sys.stdout.write(f"{name}: {(options.out / f'{name}.jsonl').stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
