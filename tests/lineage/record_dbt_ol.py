"""
Records what `dbt-ol` tells OpenLineage of a run, and the log and the manifest of the same run.

`python tests/lineage/record_dbt_ol.py BIN`, where BIN is the directory of the programs of an environment that has openlineage-dbt
and dbt-duckdb. It builds the example project with a model that fails, a test that fails and one that warns; first as
`dbt-ol --consume-structured-logs` does, which tells while dbt runs, then has `dbt-ol send-events` tell of the same run by its
artifacts. Left out are dbt-ol's events of single statements, and of log and manifest what nothing reads. Paths of this machine
are replaced.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dbt_watch.core.log.event_roles import MEANS

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples/jaffle_shop"
OUT = HERE / "recordings"
NAMESPACE = "airflow"
PARENT = f"{NAMESPACE}/lineage.build.dbt_build/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
ROOT = f"{NAMESPACE}/lineage/0190a1b2-0000-7e5f-8a9b-0c1d2e3f4a5b"
TESTS = {
    # One test that fails, of which nothing is downstream, and one that warns.
    "late_customers.sql": "select * from {{ ref('customers') }} where customer_id < 3",
    "dear_payments.sql": "{{ config(severity='warn') }} select * from {{ ref('stg_payments') }} where amount > 1",
}
READ = {*MEANS, "SQLQuery"}
UNREAD = ("macros", "docs", "disabled", "parent_map", "child_map", "group_map", "selectors")


def main(programs):
    """Record, and say how much."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        project = place / "jaffle_shop"
        ignored = shutil.ignore_patterns("target", "logs", "*.duckdb*", ".user.yml")
        shutil.copytree(EXAMPLE, project, ignore=ignored)
        for name, sql in TESTS.items():
            (project / "tests" / name).write_text(sql)
        neutral = {str(place): "/usr/app", str(programs.parent): "/usr/dbt", sys.base_prefix: "/usr/local"}
        log = dbt_ol(programs, place, "structured", "--consume-structured-logs", "build", *BUILD)
        dbt_ol(programs, place, "artifacts", "send-events", *PLACES)
        lines = [
            line
            for line in log.splitlines()
            if line.startswith("{") and json.loads(line)["info"]["name"] in READ
        ]
        write("dbt.jsonl", lines, neutral)
        for mode in ("structured", "artifacts"):
            events = [json.loads(line) for line in (place / f"{mode}.jsonl").read_text().splitlines()]
            kept = [event for event in events if event["job"]["facets"]["jobType"].get("jobType") != "SQL"]
            write(f"dbt_ol_{mode}.jsonl", map(json.dumps, kept), neutral)
        manifest = json.loads((project / "target/manifest.json").read_text())
        for name in UNREAD:
            manifest[name] = {}
        write("manifest.json", [json.dumps(manifest)], neutral)


PLACES = ("--profiles-dir", ".", "--project-dir", ".")
BUILD = (
    *PLACES, "--threads", "1", "--vars", '{"break_model": "daily_revenue"}',
    "--log-path", "logs", "--log-format", "json", "--log-level", "debug", "--no-use-colors",
)  # fmt: skip


def dbt_ol(programs, place, name, *arguments):
    """Run dbt-ol, have its events in a file, and return what it has printed."""
    own = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DBT_", "JAFFLE_", "OPENLINEAGE"))
    }
    transport = {"TYPE": "file", "LOG_FILE_PATH": str(place / f"{name}.jsonl"), "APPEND": "true"}
    env = {
        **own,
        **{f"OPENLINEAGE__TRANSPORT__{key}": value for key, value in transport.items()},
        "PATH": f"{programs}{os.pathsep}{own['PATH']}",
        "JAFFLE_SHOP_DB": str(place / "jaffle_shop.duckdb"),
        "OPENLINEAGE_NAMESPACE": NAMESPACE,
        "OPENLINEAGE_PARENT_ID": PARENT,
        "OPENLINEAGE_ROOT_PARENT_ID": ROOT,
    }
    command = [str(programs / "dbt-ol"), *arguments]
    done = subprocess.run(
        command, cwd=place / "jaffle_shop", env=env, capture_output=True, text=True, check=False
    )
    if not (place / f"{name}.jsonl").exists():
        sys.exit(done.stdout[-5_000:] + done.stderr)
    return done.stdout


def write(name, lines, neutral):
    """Write lines into a recording, without paths of this machine."""
    text = "".join(f"{line}\n" for line in lines)
    for path, word in neutral.items():
        text = text.replace(path, word)
    (OUT / name).write_text(text)
    sys.stdout.write(f"{name}: {len(text):,} characters\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
