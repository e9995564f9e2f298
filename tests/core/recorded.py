"""The recorded logs, and the way through them that the tests share."""

import json
import os
from functools import cache
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings

from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.results import NodeInfo

HERE = Path(__file__).parent.parent / "recordings"
INDEX = json.loads((HERE / "index.json").read_text())
NAMES = tuple(INDEX)
SMALL = tuple(name for name in NAMES if (HERE / f"{name}.jsonl").stat().st_size < 450_000)
WITH_RUN_RESULTS = tuple(name for name in NAMES if "run_results" in INDEX[name].get("artifact", ""))

_shared = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("fast", max_examples=50, **_shared)
settings.register_profile("thorough", max_examples=1_000, **_shared)
settings.load_profile(os.environ.get("DBT_WATCH_HYPOTHESIS", "fast"))


@cache
def log_of(name):
    return (HERE / f"{name}.jsonl").read_bytes()


@cache
def lines_of(name):
    return tuple(log_of(name).split(b"\n")[:-1])


@cache
def graph_of(name):
    """Return the nodes that the recorded commands can report: sources where they are checked, all else where there is a build."""
    graph = INDEX[name].get("graph")
    nodes = msgspec.json.decode((HERE / graph).read_bytes(), type=dict[str, NodeInfo]) if graph else {}
    checks = "freshness" in name
    builds = not checks or "freshness_build" in name
    return {
        unique_id: node
        for unique_id, node in nodes.items()
        if (checks if node.resource_type == "source" else builds)
    }


def exit_code_of(name):
    return INDEX[name]["exit_code"]


def artifact_of(name):
    artifact = INDEX[name].get("artifact")
    return (HERE / artifact).read_bytes() if artifact else None


def stream_of(nodes=None):
    return LogStream(Ledger(nodes))


def read(log, nodes=None, exit_code=0, run_results=None):
    """Go the whole way at once; return the ledger's last entries."""
    stream = stream_of(nodes)
    stream.feed(log)
    stream.close(exit_code, run_results)
    return dict(stream.ledger.entries)


@cache
def entries_of(name):
    """Return the last entries of a recording, read at once and without its artifact."""
    return read(log_of(name), graph_of(name), exit_code_of(name))


def owner_of(line):
    """Say which node a record is about; None for text and for records about none."""
    try:
        record = json.loads(line)
        data = record["data"]
        found = (
            (data.get("node_info") or {}).get("unique_id") or data.get("unique_id") or data.get("conn_name")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if isinstance(found, str) else None
