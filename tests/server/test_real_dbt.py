"""The example project with a real dbt and duckdb."""

import json

import pytest
import yaml
from serving import Server, copy_example

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("real")
    settings = {
        "state_dir": "state",
        "projects": {
            "jaffle_shop": {
                "directory": str(copy_example(home)),
                "targets": ["dev"],
                "env": {
                    "JAFFLE_SHOP_DB": str(home / "shop.duckdb"),
                    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
                },
            }
        },
    }
    config = home / "server.yml"
    config.write_text(yaml.safe_dump(settings))
    with Server(config) as running:
        yield running


def build(server, *words):
    found = server.wait(server.post(["build", *words]), 240)
    log = server.client.get(f"/invocations/{found['task_id']}/log").text
    return found, [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def artifact(server, found, name):
    return server.client.get(f"/invocations/{found['task_id']}/artifacts/{name}").json()


def test_a_build_succeeds_and_its_log_tells_of_every_node(server):
    found, records = build(server)
    assert (found["state"], found["exit_code"]) == ("SUCCESS", 0)
    results = {one["unique_id"] for one in artifact(server, found, "run_results.json")["results"]}
    finished = {
        one["data"]["node_info"]["unique_id"] for one in records if one["info"]["name"] == "NodeFinished"
    }
    assert results == finished
    assert {name for name in results if name.startswith("model.")} <= set(
        artifact(server, found, "manifest.json")["nodes"]
    )


def test_the_partial_parse_of_the_last_run_is_used(server):
    _, records = build(server, "--select", "stg_orders")
    names = {one["info"]["name"] for one in records}
    assert "UnableToPartialParse" not in names
    assert "PartialParsingEnabled" in names


def test_a_model_that_fails_is_a_failure_with_the_words_of_the_database(server):
    found, _ = build(server, "--vars", '{"break_model": "orders"}')
    assert (found["state"], found["exc_type"], found["exit_code"]) == ("FAILURE", "NodesFailed", 1)
    assert found["exc_message"]


def test_a_retry_builds_what_failed(server):
    build(server, "--vars", '{"break_model": "orders"}')
    found = server.wait(server.post(["retry", "--vars", '{"break_model": ""}']), 240)
    assert found["state"] == "SUCCESS"
    results = {one["unique_id"] for one in artifact(server, found, "run_results.json")["results"]}
    assert "model.jaffle_shop.orders" in results
    assert "model.jaffle_shop.stg_orders" not in results


def test_an_invocation_that_dbt_cannot_understand_keeps_no_results_of_another(server):
    found = server.wait(server.post(["build", "--selector", "nothing"]), 240)
    assert (found["state"], found["exc_type"]) == ("FAILURE", "DbtError")
    assert (
        "run_results.json"
        not in server.client.get(f"/invocations/{found['task_id']}/artifacts").json()["artifacts"]
    )
