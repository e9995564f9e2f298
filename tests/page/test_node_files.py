"""Columns and compiled SQL of a node: from XCom, from the artifacts of the run, and why there is none."""

import json

import pytest
from made_airflow import GROUP, PRODUCER, model

from dbt_watch.core.manifest.columns import Column
from dbt_watch.page import node_files

ID = Column("id", "integer", "The key.")
PLACE = "s3://lake/shop/1/1"


@pytest.fixture
def keep(airflow, stored):
    """Return a function that keeps artifacts of the run."""

    def keep(place=PLACE, run="", **files):
        contents = {f"{name}.json": json.dumps(content).encode() for name, content in files.items()}
        stored.update({f"{place}/{name}": content for name, content in contents.items()})
        sizes = {name: len(content) for name, content in contents.items()}
        airflow.put(PRODUCER, "dbt_watch_artifacts", {"place": place, "run": run, "files": sizes})

    return keep


def run_results(**compiled):
    return {"results": [{"unique_id": model(name), "compiled_code": sql} for name, sql in compiled.items()]}


def test_columns_come_from_what_the_task_that_runs_dbt_has_told(ask, shop):
    shop.begin(columns={model("raw"): (ID, Column("name"))})
    found = ask("files", node=model("raw"))
    assert found["columns"] == [
        {"name": "id", "type": "integer", "description": "The key."},
        {"name": "name"},
    ]
    assert found["columns_from"] == "manifest.json"
    assert "columns" not in ask("files", node=model("orders"))


def test_until_a_run_has_its_own_columns_are_those_of_the_run_before(ask, shop, airflow, make):
    (run_id, row) = airflow.dag_runs.popitem()
    airflow.dag_runs = {"manual__1": row._replace(run_id="manual__1"), run_id: row}
    make({"raw": ()}, run_id="manual__1").begin(columns={model("raw"): (ID,)})
    assert ask("files", node=model("raw"))["columns"][0]["name"] == "id"


def test_a_catalog_adds_the_types_of_the_database_and_the_columns_that_nobody_has_described(ask, shop, keep):
    shop.begin(columns={model("raw"): (Column("id", "", "The key."),)})
    columns = {
        "NAME": {"name": "NAME", "type": "VARCHAR", "index": 2},
        "ID": {"name": "ID", "type": "BIGINT", "index": 1, "comment": "of the database"},
    }
    keep(run_results=run_results(), catalog={"nodes": {model("raw"): {"columns": columns}}})
    found = ask("files", node=model("raw"))
    assert found["columns"] == [
        {"name": "id", "type": "BIGINT", "description": "The key."},
        {"name": "NAME", "type": "VARCHAR"},
    ]
    assert found["columns_from"] == "manifest.json and catalog.json"


def test_compiled_sql_comes_from_the_results_that_the_run_has_kept(ask, shop, keep):
    shop.begin()
    keep(run_results=run_results(raw="select \x1b[31m1\n"))
    found = ask("files", node=model("raw"))
    assert (found["compiled_sql"], found["compiled_from"]) == ("select 1", "run_results.json")
    assert "compiled_missing" not in found


def test_of_a_node_that_an_earlier_attempt_has_built_the_results_of_the_whole_run_tell(
    ask, shop, keep, stored
):
    shop.begin()
    stored["s3://lake/shop/1/run_results.json"] = json.dumps(run_results(raw="select 1")).encode()
    keep("s3://lake/shop/1/2", run="s3://lake/shop/1", run_results=run_results(orders="select 2"))
    assert ask("files", node=model("raw"))["compiled_sql"] == "select 1"
    assert ask("files", node=model("other"))["compiled_missing"] == node_files.NONE_OF_IT


def test_why_there_is_no_compiled_sql_is_said(ask, shop, airflow, keep, stored):
    shop.begin()
    assert ask("files", node=model("raw"))["compiled_missing"] == node_files.NOT_YET
    keep(run_results=run_results(raw="select 1"))
    stored.clear()
    assert "cannot be read" in ask("files", node=model("raw"))["compiled_missing"]
    for name in ("raw", "orders", "customers", "other"):
        airflow.set_task(f"{GROUP}.{name}", "success")
    shop.end()
    airflow.values = {key: value for key, value in airflow.values.items() if "artifacts" not in key[-1]}
    assert ask("files", node=model("raw"))["compiled_missing"] == node_files.NOT_KEPT


@pytest.mark.parametrize("content", [b"", b"[]", b'{"results": 1}', b'{"results": [{"unique_id": []}]}'])
def test_a_damaged_artifact_tells_nothing(ask, shop, keep, stored, content):
    shop.begin()
    keep(run_results={}, catalog={}, manifest={})
    stored.update(dict.fromkeys(stored, content))
    found = ask("files", node=model("raw"))
    assert found["compiled_missing"] == node_files.NONE_OF_IT
    assert "columns" not in found


@pytest.mark.parametrize("told", [7, {"place": 7, "files": {}}, {"place": "s3://lake", "files": []}])
def test_what_is_no_word_of_artifacts_counts_for_nothing(ask, shop, airflow, told):
    shop.begin()
    airflow.put(PRODUCER, "dbt_watch_artifacts", told)
    assert ask("files", node=model("raw"))["compiled_missing"] == node_files.NOT_YET


def test_an_artifact_is_read_once_and_few_are_kept():
    read = []

    def content(path):
        read.append(path)
        return b"{}"

    artifacts = node_files.ArtifactReader(content)
    for path in (*map(str, range(node_files.MAX_KEPT)), "0", "more", "1"):
        artifacts.facts(path, lambda content: {})
    assert read == [*map(str, range(node_files.MAX_KEPT)), "more", "1"]


def test_a_node_that_is_not_in_the_run_has_no_files(ask, shop):
    shop.begin()
    assert ask("files", 404, node="model.shop.nothing") == {"detail": "there is no such node"}
