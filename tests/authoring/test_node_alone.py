"""`@dbt_node` outside of a project: the pod builds just that node and its tests, as dbt itself understands the selection."""

import json
import subprocess
import sys

import pytest

from dbt_watch import dbt_k8s_project, dbt_node
from dbt_watch.exceptions import ArgumentError

FILES = {
    "dbt_project.yml": "name: shop\nprofile: shop\nmodel-paths: [models]\nflags: {send_anonymous_usage_stats: false}\n",
    "profiles.yml": "shop: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:'}}}\n",
    "models/orders.sql": "select 1 as id",
    "models/orders/lines.sql": "select 1 as id",
    "models/orders/orders_daily.sql": "select * from {{ ref('orders') }}",
    "models/prices_v1.sql": "select 1 as id",
    "models/prices_v2.sql": "select 1 as id",
    "models/unused.sql": "{{ config(enabled=false) }} select 1",
    "models/inlined.sql": "{{ config(materialized='ephemeral') }} select 1 as id",
    "models/models.yml": """
models:
  - name: orders
    columns: [{name: id, data_tests: [not_null]}]
  - name: lines
    columns: [{name: id, data_tests: [not_null]}]
  - name: prices
    columns: [{name: id, data_tests: [unique]}]
    versions: [{v: 1}, {v: 2}]
unit_tests:
  - name: one_order
    model: orders
    given: []
    expect: {rows: [{id: 1}]}
""",
}
CASES = {
    "orders": {"model.shop.orders", "unit_test.shop.orders.one_order", "test.shop.not_null_orders_id"},
    "model.shop.lines": {"model.shop.lines", "test.shop.not_null_lines_id"},
    "prices.v2": {"model.shop.prices.v2", "test.shop.unique_prices_v2_id"},
}


@pytest.fixture(scope="module")
def crowded(parse, tmp_path_factory):
    """A project in which a folder is called as a model is."""
    directory = tmp_path_factory.mktemp("crowded") / "shop"
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return parse(directory)


@pytest.mark.newest  # what dbt selects is the same beside any Airflow
@pytest.mark.parametrize(("name", "expected"), CASES.items())
def test_the_pod_builds_the_node_and_its_tests_and_nothing_of_a_folder_of_that_name(
    dag, crowded, name, expected
):
    @dbt_node(name, manifest=crowded / "target/manifest.json", image="shop:1")
    def check(result): ...

    check()
    producer = dag.task_dict["check.dbt_build"]
    built = {unique_id for nodes in producer.watched.values() for unique_id in nodes}
    assert without_hashes(built) == expected
    assert without_hashes(listed_by_dbt(crowded, producer.selection.arguments())) == expected


NOT_BUILT = {
    "inlined": "model.shop.inlined is ephemeral: it is compiled into the nodes that use it, dbt never builds it",
    "unused": "an enabled node; model.shop.unused is disabled in the project",
    "shop.unused": "an enabled node; model.shop.unused is disabled in the project",
    "model.shop.unused": "an enabled node; model.shop.unused is disabled in the project",
    "lines": "model.shop.lines is left out by select, exclude, selector, tests or freshness",
    "orders_dayly": "a node of the project; did you mean orders_daily",
}


@pytest.mark.parametrize(("name", "why"), NOT_BUILT.items())
def test_a_node_without_a_task_is_refused_with_the_reason(dag, crowded, name, why):
    manifest = crowded / "target/manifest.json"

    @dbt_k8s_project(manifest=manifest, image="shop:1", exclude="lines")
    def build(): ...

    project = build()
    with pytest.raises(ArgumentError) as caught:
        project[name]
    assert str(caught.value).startswith(f"node={name!r}: expected ")
    assert why in str(caught.value)
    assert name not in project


@pytest.mark.parametrize(("name", "why"), [item for item in NOT_BUILT.items() if item[0] != "lines"])
def test_a_lone_node_that_dbt_does_not_build_is_refused_with_the_reason(dag, crowded, name, why):
    def check(result): ...

    with pytest.raises(ArgumentError) as caught:
        dbt_node(name, manifest=crowded / "target/manifest.json", image="shop:1")(check)()
    assert str(caught.value).startswith(f"node={name!r}: expected ")
    assert why in str(caught.value)


def without_hashes(unique_ids):
    return {
        unique_id.rpartition(".")[0] if unique_id.startswith("test.") else unique_id
        for unique_id in unique_ids
    }


def listed_by_dbt(directory, arguments):
    command = [
        sys.executable,
        "-m",
        "dbt.cli.main",
        "--quiet",
        "ls",
        "--profiles-dir",
        ".",
        "--output",
        "json",
    ]
    done = subprocess.run(
        [*command, "--output-keys", "unique_id", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=480,
        check=True,
    )
    return {json.loads(line)["unique_id"] for line in done.stdout.splitlines()}
