"""
The projects of `bench_scale`: a manifest, and what `load/scripted_dbt.py` plays of it.

The lines of a node are those that dbt wrote of one of the recorded ones, with other names and times.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench_graph import manifest_of

RECORDING = Path(__file__).parent.parent / "recordings/1.12__postgres__build_t4_fail_debug.jsonl"
RECORDED = {"model": "model.shop.orders", "test": "test.shop.unique_stg_orders_order_id.e3b841c71a"}
HEAD = ("MainReportVersion", "AdapterRegistered", "FoundStats", "ConcurrencyLine")
TAIL = ("FinishedRunningStats", "EndOfRunSummary", "StatsLine", "CommandCompleted")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")

Line = tuple[str, str]
"""The level of a line, and its text with `@names@` of what is put in."""


def parents_of(number: int) -> list[int]:
    """Return the parents of a model: a lineage as deep as the logarithm of its size: 9 levels of 180 models, 12 of 1,500."""
    return sorted({number // 2, number // 3} - {number})


def write_project(directory: Path, sensors: int) -> tuple[Path, Path]:
    """Write a project that has so many sensors, half of models and half of their tests: its manifest and its plan."""
    manifest = manifest_of(sensors // 2, parents_of)
    paths = directory / f"manifest-{sensors}.json", directory / f"plan-{sensors}.json"
    for path, content in zip(paths, (manifest, plan_of(manifest)), strict=True):
        path.write_text(json.dumps(content))
    return paths


def plan_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what is played of a manifest in whose build no node fails."""
    records = [
        json.loads(line) for line in RECORDING.read_text(encoding="utf-8").split("\n") if line[:1] == "{"
    ]
    nodes = manifest["nodes"]
    tests: dict[str, list[str]] = {}
    for unique_id, node in nodes.items():
        if node["resource_type"] == "test":
            tests.setdefault(node["attached_node"], []).append(unique_id)
    planned = {}
    for unique_id, node in nodes.items():
        parents = list(node["depends_on"]["nodes"])
        if node["resource_type"] != "test":
            # In a build, dbt does not build what depends on a node before its tests have passed.
            parents += [test for parent in parents for test in tests.get(parent, ())]
        planned[unique_id] = {"name": node["name"], "kind": node["resource_type"], "parents": parents}
    return {
        "nodes": planned,
        "lines": {kind: node_lines(records, unique_id, len(nodes)) for kind, unique_id in RECORDED.items()},
        "head": [line_of(record) for record in records if record["info"]["name"] in HEAD],
        "tail": tail_lines(records, len(nodes)),
    }


def node_lines(records: list[dict[str, Any]], unique_id: str, total: int) -> dict[str, list[Line]]:
    """Return what dbt wrote of one node, until it is run and from there on."""
    own = [record for record in records if record["data"].get("node_info", {}).get("unique_id") == unique_id]
    thread = own[0]["info"]["thread"]
    first, last = records.index(own[0]), records.index(own[-1])
    lines: dict[str, list[Line]] = {"start": [], "end": []}
    part = "start"
    for record in records[first : last + 1]:
        if record["info"]["thread"] != thread:
            continue
        if "index" in record["data"]:
            record["data"] |= {"index": "@index@", "total": total}
            record["info"]["msg"] = re.sub(r"^\d+ of \d+", f"@index@ of {total}", record["info"]["msg"])
        level, text = line_of(record, began=own[0]["data"]["node_info"]["node_started_at"].rstrip("Z"))
        for recorded, name in (
            (unique_id, "@id@"),
            (own[0]["data"]["node_info"]["node_name"], "@name@"),
            (thread, "Thread-@thread@ (worker)"),
            ('"@index@"', "@index@"),
        ):
            text = text.replace(recorded, name)
        lines[part].append((level, text))
        if record["info"]["name"] == "NodeExecuting":
            part = "end"
    return lines


def tail_lines(records: list[dict[str, Any]], total: int) -> list[Line]:
    """Return what dbt writes when all of so many nodes have succeeded."""
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "FinishedRunningStats": (f"Finished running {total} nodes.", {}),
        "EndOfRunSummary": ("Completed successfully", {"num_errors": 0, "num_warnings": 0}),
        "StatsLine": (
            f"Done. PASS={total} WARN=0 ERROR=0 SKIP=0 NO-OP=0 REUSED=0 TOTAL={total}",
            {
                "stats": {
                    "error": 0,
                    "noop": 0,
                    "pass": total,
                    "reused": 0,
                    "skip": 0,
                    "total": total,
                    "warn": 0,
                }
            },
        ),
        "CommandCompleted": ("Command `dbt build` succeeded", {"success": True}),
    }
    found = {record["info"]["name"]: record for record in records}
    for name, (message, data) in changes.items():
        found[name]["info"]["msg"] = message
        found[name]["data"] |= data
    return [line_of(found[name]) for name in TAIL]


def line_of(record: dict[str, Any], began: str | None = None) -> Line:
    """Return a line, with the present in place of its times but that at which its node began."""
    text = json.dumps(record)
    if began:
        text = text.replace(began, "@began@")
    return record["info"]["level"], TIME.sub("@now@", text)
