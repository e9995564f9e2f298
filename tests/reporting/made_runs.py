"""Runs to report on: the recorded ones, and made ones of any size."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec

from dbt_watch.core.results import NodeInfo
from dbt_watch.reporting.assembly import record_of
from dbt_watch.reporting.sources import read_source

RECORDINGS = Path(__file__).parents[1] / "recordings"
INDEX = json.loads((RECORDINGS / "index.json").read_text())
START = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def log(name):
    return RECORDINGS / f"{name}.jsonl"


def nodes_of(name):
    """Return what the manifest of a recorded run says of its nodes."""
    nodes = msgspec.json.decode((RECORDINGS / INDEX[name]["graph"]).read_bytes(), type=dict[str, NodeInfo])
    return {unique_id: node for unique_id, node in nodes.items() if node.resource_type != "source"}


def recorded(name, nodes=None):
    """Return the record of a recorded run."""
    return record_of(read_source(log(name).read_bytes(), name, nodes or {}))


def artifact(nodes, *, threads=4, invocation_id="i-1"):
    """
    Return a run_results.json.

    :param nodes: for each unique_id when it began and ended, in seconds, and more of its result
    """
    results = [
        {
            "unique_id": unique_id,
            "status": "success",
            "thread_id": None if threads is None else f"Thread-{number % threads + 1}",
            "execution_time": end - begin,
            "timing": [
                {
                    "name": "execute",
                    "started_at": (START + timedelta(seconds=begin)).isoformat(),
                    "completed_at": (START + timedelta(seconds=end)).isoformat(),
                }
            ],
            **more,
        }
        for number, (unique_id, (begin, end, more)) in enumerate(nodes.items())
    ]
    metadata = {"dbt_version": "1.11.0", "invocation_id": invocation_id}
    return json.dumps({"metadata": metadata, "results": results}).encode()


def manifest(parents, *, more=None):
    """
    Return a manifest.json.

    :param parents: what each node depends on
    :param more: more fields of some nodes
    """
    nodes = {}
    for unique_id, before in parents.items():
        kind, _, name = unique_id.split(".", 2)
        nodes[unique_id] = {
            "unique_id": unique_id,
            "name": name,
            "resource_type": kind,
            "package_name": "shop",
            "fqn": ["shop", name],
            "original_file_path": f"models/{name}.sql",
            "depends_on": {"nodes": list(before)},
            "config": {"enabled": True, "materialized": "test" if kind == "test" else "view"},
            "raw_code": "select 1",
            **(more or {}).get(unique_id, {}),
        }
    metadata = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
        "dbt_version": "1.11.0",
        "project_name": "shop",
    }
    return json.dumps({"metadata": metadata, "nodes": nodes, "sources": {}, "macros": {}}).encode()


def made(nodes, **options):
    """Return the record of a made run."""
    return record_of(read_source(artifact(nodes, **options), "run_results.json", {}))
