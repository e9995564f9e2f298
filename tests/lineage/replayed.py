"""The recorded run of `recordings`, as this library and as `dbt-ol` tell OpenLineage of it."""

import json
from pathlib import Path

from dbt_watch.core.manifest.load import decode_manifest
from dbt_watch.lineage.facts import JOBS, project_facts
from dbt_watch.lineage.happenings import LineageListener
from dbt_watch.lineage.plan import LineagePlan, ParentRun
from dbt_watch.producers.build_watch import BuildWatch

RECORDINGS = Path(__file__).parent / "recordings"
MANIFEST = (RECORDINGS / "manifest.json").read_bytes()
LOG = (RECORDINGS / "dbt.jsonl").read_bytes().splitlines()
GRAPH = decode_manifest(MANIFEST, location="recordings/manifest.json")
NODES = {unique_id: node for unique_id, node in GRAPH.nodes.items() if node.resource_type in JOBS}
# As `record_dbt_ol.py` has told dbt-ol.
PARENT = ParentRun(
    namespace="airflow",
    job="lineage.build.dbt_build",
    run_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    root_namespace="airflow",
    root_job="lineage",
    root_run_id="0190a1b2-0000-7e5f-8a9b-0c1d2e3f4a5b",
)
DATASETS_IN = "duckdb:///usr/app/jaffle_shop.duckdb"


def plan(**changes):
    values = {"parent": PARENT, "namespace": DATASETS_IN, "facts": project_facts(MANIFEST, NODES), **changes}
    return LineagePlan(**values)


def happenings(lines=LOG, exit_code=1, nodes=NODES, piece=1, **more):
    """Return what happens in a log, read in pieces of so many lines."""
    told = []
    watch = BuildWatch(
        nodes, attempt=1, show=lambda line: None, listener=LineageListener(told.append), **more
    )
    for start in range(0, len(lines), piece):
        watch.take_lines(lines[start : start + piece], True)
    watch.end(exit_code)
    return told


def as_json(event):
    from openlineage.client.serde import Serde  # noqa: PLC0415 - most tests here need no OpenLineage

    return json.loads(Serde.to_json(event))


def ours():
    from dbt_watch.lineage.events import LineageEvents  # noqa: PLC0415 - as above

    events = LineageEvents(plan())
    return [as_json(events.of(happening)) for happening in happenings()]


def theirs(mode):
    """Return what dbt-ol has told of the run, as "structured" or as "artifacts"."""
    return [json.loads(line) for line in (RECORDINGS / f"dbt_ol_{mode}.jsonl").read_text().splitlines()]
