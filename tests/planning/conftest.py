"""The plans of the examples, and manifests of many nodes."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from airflow.sdk import DAG

from dbt_watch import dbt_k8s_project
from dbt_watch.planning import command
from dbt_watch.planning.loading import plan_of_dag_file

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def dag():
    with DAG("shop", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        yield dag


@pytest.fixture
def decorate(project):
    def decorate(**overrides):
        arguments = {"manifest": project / "target/manifest.json", "image": "shop:1", "group_id": "build"}
        return dbt_k8s_project(**{**arguments, **overrides})

    return decorate


@pytest.fixture
def example_plan(project, monkeypatch):
    """Return a function that plans one of the examples."""
    monkeypatch.setenv("JAFFLE_SHOP_MANIFEST", str(project / "target/manifest.json"))

    def plan(name):
        return plan_of_dag_file(EXAMPLES / name, dag_id=None, group_id=None, warn=pytest.fail)

    return plan


@pytest.fixture
def run(capsys):
    """Return a function that runs the command, and returns its exit status, its output and its complaints."""
    import argparse  # noqa: PLC0415

    def run(*arguments):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        status = command.run(parser.parse_args([str(argument) for argument in arguments]))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def layers(tmp_path):
    """Return a function that writes a manifest of layers, in which each model reads two of the layer before."""

    def write(width, depth):
        nodes = {}
        for number in range(width * depth):
            layer, place = divmod(number, width)
            before = {(layer - 1) * width + place, (layer - 1) * width + (place + 1) % width} if layer else ()
            unique_id = f"model.shop.m{number:04}"
            nodes[unique_id] = {
                "unique_id": unique_id,
                "name": f"m{number:04}",
                "resource_type": "model",
                "package_name": "shop",
                "fqn": ["shop", f"m{number:04}"],
                "original_file_path": f"models/m{number:04}.sql",
                "depends_on": {"nodes": [f"model.shop.m{parent:04}" for parent in sorted(before)]},
                "config": {"enabled": True, "materialized": "view"},
                "raw_code": "select 1",
            }
        metadata = {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
            "dbt_version": "1.11.0",
            "project_name": "shop",
        }
        path = tmp_path / f"layers{width}x{depth}.json"
        path.write_text(json.dumps({"metadata": metadata, "nodes": nodes, "sources": {}, "macros": {}}))
        return path

    return write
