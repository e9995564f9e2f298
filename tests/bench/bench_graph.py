"""
How long it takes to read and to select from a manifest of 5,000 models.

Usage: python tests/bench/bench_graph.py [--models N] [--json]. All figures are CPU seconds of this process, the best of a few
runs, beside those of a plain `json.loads` of the same text in the same run. `nox -s bench` runs it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt_watch.core.manifest import load as reading
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.selection import select_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbt_watch.core.manifest.graph import Graph

#: CPU seconds that each may take with 5,000 models
LIMITS = {"first read": 0.25, "read from the cache": 0.05, "selection": 0.05}
SELECTIONS: dict[str, dict[str, Any]] = {
    "everything": {},
    "a model, its parents and its tests": {"select": "+model_4000"},
    "a wildcard": {"select": "model_1*"},
    "folders, tags and an exclusion": {
        "select": "path:models/area_1 tag:tag_3,config.materialized:table",
        "exclude": "tag:tag_5",
    },
    "a glob": {"select": "path:models/*/model_*1.sql"},
    "at, cautious": {"select": "@model_2500", "indirect_selection": "cautious"},
    "buildable": {"select": "path:models/area_2+", "indirect_selection": "buildable"},
}
RAW = (
    "select\n"
    + "\n".join(f"    column_{number}," for number in range(40))
    + "\n    1 as one\nfrom {{ ref('model_0') }}\n"
)


def deep_lineage(number: int) -> list[int]:
    """Return the parents of a model: a level for each seven models."""
    return sorted({number // 2, max(0, number - 7)} - {number})


def manifest_of(models: int, parents_of: Callable[[int], list[int]] = deep_lineage) -> dict[str, Any]:
    """Make a manifest as dbt 1.12 writes it: each model with its columns, its code twice, and two tests."""
    nodes: dict[str, Any] = {}
    for number in range(models):
        nodes[f"model.shop.model_{number}"] = _model(
            number, [f"model.shop.model_{parent}" for parent in parents_of(number)]
        )
        for kind in ("not_null", "unique"):
            unique_id = f"test.shop.{kind}_model_{number}_id.{number:010x}"
            nodes[unique_id] = _test(unique_id, kind, f"model.shop.model_{number}")
    return {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "dbt_version": "1.12.6",
            "project_name": "shop",
            "adapter_type": "duckdb",
        },
        "nodes": nodes,
        "sources": {},
        "macros": {f"macro.dbt.m{number}": _macro(number) for number in range(600)},
        "docs": {},
        "exposures": {},
        "metrics": {},
        "groups": {},
        "selectors": {},
        "disabled": {},
        "parent_map": {unique_id: node["depends_on"]["nodes"] for unique_id, node in nodes.items()},
        "child_map": {unique_id: [] for unique_id in nodes},
        "group_map": {},
        "saved_queries": {},
        "semantic_models": {},
        "unit_tests": {},
        "functions": {},
    }


def _config(**values: Any) -> dict[str, Any]:
    names = "alias schema database group static_analysis incremental_strategy batch_size begin full_refresh unique_key"
    return {
        "enabled": True,
        **dict.fromkeys(names.split()),
        "persist_docs": {},
        "post-hook": [],
        "pre-hook": [],
        "quoting": {},
        "column_types": {},
        "on_schema_change": "ignore",
        "on_configuration_change": "apply",
        "grants": {},
        "packages": [],
        "docs": {"show": True, "node_color": None},
        "contract": {"enforced": False, "alias_types": True},
        **values,
    }


def _common(unique_id: str, name: str, path: str, parents: list[str]) -> dict[str, Any]:
    return {
        "unique_id": unique_id,
        "name": name,
        "alias": name,
        "resource_type": unique_id.partition(".")[0],
        "package_name": "shop",
        "path": path.partition("/")[2],
        "original_file_path": path,
        "database": "shop",
        "schema": "main",
        "fqn": ["shop", *path.split("/")[1:-1], name],
        "checksum": {
            "name": "sha256",
            "checksum": "8867f6d47879725548588e004e57223e232214c11a80a7e01d5f509971478391",
        },
        "meta": {},
        "docs": {"show": True, "node_color": None},
        "created_at": 1795248393.4905217,
        "depends_on": {"macros": [], "nodes": parents},
        "refs": [{"name": parent.rpartition(".")[2], "package": None, "version": None} for parent in parents],
        "relation_name": f'"shop"."main"."{name}"',
        "compiled": True,
        "contract": {"enforced": False, "alias_types": True, "checksum": None},
    }


def _model(number: int, parents: list[str]) -> dict[str, Any]:
    name, area = f"model_{number}", f"area_{number % 25}"
    columns = {
        f"column_{index}": {
            "name": f"column_{index}",
            "description": f"the column {index} of the model {number}, as the warehouse has it",
            "meta": {},
            "data_type": "integer",
            "constraints": [],
            "quote": None,
            "tags": [],
        }
        for index in range(15)
    }
    tags = [f"tag_{number % 10}"]
    return {
        **_common(f"model.shop.{name}", name, f"models/{area}/{name}.sql", parents),
        # No two configurations are the same. The peer makes owners of tasks of these, of which Airflow takes 500 characters.
        "config": _config(
            materialized=("table", "view")[number % 2],
            tags=tags,
            meta={"owner": f"team {number % 10}", "contact": f"team_{number}@shop.example"},
        ),
        "tags": tags,
        "description": f"What is known of the model {number}.",
        "columns": columns,
        "patch_path": f"shop://models/{area}/_models.yml",
        "raw_code": RAW,
        "compiled_code": RAW,
        "access": "protected",
        "version": None,
        "latest_version": None,
    }


def _test(unique_id: str, kind: str, model: str) -> dict[str, Any]:
    name = unique_id.split(".")[2]
    return {
        **_common(unique_id, name, f"models/area_{int(model.rpartition('_')[2]) % 25}/_models.yml", [model]),
        "config": _config(materialized="test", tags=[], severity="ERROR", meta={}),
        "tags": [],
        "description": "",
        "columns": {},
        "raw_code": "{{ test_" + kind + "(**_dbt_generic_test_kwargs) }}",
        "compiled_code": "select id from a_model where id is null",
        "test_metadata": {"name": kind, "kwargs": {"column_name": "id"}, "namespace": None},
        "attached_node": model,
    }


def _macro(number: int) -> dict[str, Any]:
    return {
        "name": f"m{number}",
        "unique_id": f"macro.dbt.m{number}",
        "package_name": "dbt",
        "original_file_path": f"macros/m{number}.sql",
        "macro_sql": RAW,
    }


def cpu_seconds(action: Callable[[], object], runs: int = 3) -> float:
    """Return the CPU seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(runs):
        gc.collect()
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def measure(models: int) -> dict[str, float]:
    """Return the CPU seconds of each step, by name."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        os.environ["DBT_WATCH_CACHE_DIR"] = str(Path(directory, "cache"))
        path = Path(directory, "manifest.json")
        path.write_text(json.dumps(manifest_of(models)), encoding="utf-8")
        figures["megabytes"] = path.stat().st_size / 1e6
        content = path.read_bytes()
        figures["json.loads"] = cpu_seconds(lambda: json.loads(content), runs=1)
        figures["first read"] = cpu_seconds(lambda: _first_read(path))
        figures["read from the cache"] = cpu_seconds(lambda: _cached_read(path))
        figures["cache, megabytes"] = next(Path(directory, "cache").iterdir()).stat().st_size / 1e6
        figures["read again in the process"] = cpu_seconds(lambda: load_manifest(path))
        for name, selection in SELECTIONS.items():
            figures[f"selection: {name}"] = min(_select(_cached_read(path), selection) for _ in range(7))
    return figures


def _first_read(path: Path) -> Graph:
    os.utime(path)
    return _cached_read(path)


def _cached_read(path: Path) -> Graph:
    reading._IN_PROCESS.clear()
    return load_manifest(path)


def _select(graph: Graph, selection: dict[str, Any]) -> float:
    # a graph that has not been selected from: its indexes are made, too
    gc.collect()
    start = time.process_time()
    assert select_nodes(graph, **selection)
    return time.process_time() - start


def main() -> int:
    """Print the table; the exit status is 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    figures = measure(args.models)
    if args.json:
        sys.stdout.write(f"{json.dumps(figures)}\n")
    else:
        loads = figures["json.loads"]
        for name, figure in figures.items():
            ratio = "" if "megabytes" in name else f"{figure / loads:8.3f} x json.loads"
            sys.stdout.write(f"{name:45}{figure:9.4f}{ratio}\n")
    passed = [
        f"{name} took {figure:.3f} s, and may take {limit} s"
        for name, figure in figures.items()
        for start, limit in LIMITS.items()
        if name.startswith(start) and figure > limit * args.models / 5000
    ]
    for line in passed:
        sys.stderr.write(f"{line}\n")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
