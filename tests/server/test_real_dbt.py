"""The example project with a real dbt and duckdb, warm, and beside it the same one as a program."""

import json
import re
import sys

import psutil
import pytest
import yaml
from serving import Server, copy_example, is_fork_server, wait_for

pytestmark = pytest.mark.server

FORKS = sys.platform.startswith("linux")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("real")

    def project(name):
        (home / name).mkdir()
        return {
            "directory": str(copy_example(home / name)),
            "targets": ["dev"],
            "env": {
                "JAFFLE_SHOP_DB": str(home / name / "shop.duckdb"),
                "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            },
            "warm": name == "warm",
        }

    config = home / "server.yml"
    config.write_text(
        yaml.safe_dump(
            {"state_dir": "state", "projects": {name: project(name) for name in ("warm", "program")}}
        )
    )
    with Server(config) as running:
        if FORKS:
            wait_for(lambda: "is warm" in running.log.read_text(), 120)
        yield running


def run(server, *words, project="warm"):
    found = server.wait(server.post(words, project_dir=project), 240)
    log = server.client.get(f"/invocations/{found['task_id']}/log").text
    return found, [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def build(server, *words):
    return run(server, "build", *words)


def artifact(server, found, name):
    return server.client.get(f"/invocations/{found['task_id']}/artifacts/{name}").json()


# What depends on time: which of dbt's threads finds a connection open that it may take over.
BY_CHANCE = re.compile(r"ResourceReport|CommandCompleted|TimingInfoCollected|NewConnection|Connection\w+")


@pytest.mark.parametrize(
    "words",
    [["build", "--threads", "1"], ["show", "--inline", "select 1 as one"], ["run-operation", "nothing"], ["build", "--selector", "no"]],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_a_fork_of_dbt_says_and_writes_what_the_program_does(server, words):
    told = []
    for project in ("program", "warm"):
        found, records = run(server, *words, project=project)
        (flags,) = [one["data"]["args"] for one in records if one["info"]["name"] == "MainReportArgs"]
        artifacts = server.client.get(f"/invocations/{found['task_id']}/artifacts").json()["artifacts"]
        told.append(
            {
                "end": (found["state"], found["exit_code"], found.get("exc_type")),
                "events": sorted(
                    one["info"]["name"] for one in records if not BY_CHANCE.fullmatch(one["info"]["name"])
                ),
                "flags": {name: value.replace(f"/{project}/", "/") for name, value in flags.items()},
                "artifacts": set(artifacts),
                "invocations": len({one["info"]["invocation_id"] for one in records}),
            }
        )
    program, fork = told
    for name, value in program.items():
        assert fork[name] == value, name


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


@pytest.mark.skipif(not FORKS, reason="elsewhere dbt is a program")
def test_dbt_begins_without_its_imports_and_leaves_nothing_in_the_fork_server(server):
    (process,) = filter(is_fork_server, psutil.Process(server.process.pid).children(recursive=True))
    before = process.memory_full_info().uss
    numbers = set()
    for _ in range(2):
        found, records = run(server, "ls", "--select", "orders")
        numbers |= {one["info"]["pid"] for one in records} | {found["task_id"]}
    assert len(numbers) == 4
    assert (process.num_threads(), process.net_connections()) == (1, [])
    assert process.memory_full_info().uss - before < 10_000_000
    assert "is started as a new program" not in server.log.read_text()


@pytest.mark.parametrize("project", ["program", "warm"])
def test_a_dbt_that_is_aborted_hears_of_it(server, project):
    slow = "select count(*) from range(1000000000000) as numbers"
    task_id = server.post(["show", "--inline", slow], project_dir=project)
    log = f"/invocations/{task_id}/log"
    wait_for(lambda: '"SQLQuery"' in server.client.get(log).text)
    server.client.post(f"/invocations/{task_id}/abort")
    assert server.wait(task_id)["state"] == "ABORTED"


def test_the_partial_parse_of_the_last_run_is_used(server):
    run(server, "parse")
    _, records = run(server, "ls", "--select", "stg_orders")
    names = {one["info"]["name"] for one in records}
    assert "UnableToPartialParse" not in names
    assert "PartialParsingEnabled" in names


def test_a_model_that_fails_is_a_failure_with_the_words_of_the_database(server):
    found, _ = build(server, "--vars", '{"break_model": "orders"}')
    assert (found["state"], found["exc_type"], found["exit_code"]) == ("FAILURE", "NodesFailed", 1)
    assert found["exc_message"]


def test_a_retry_builds_what_failed(server):
    build(server, "--vars", '{"break_model": "orders"}')
    found = server.wait(server.post(["retry", "--vars", '{"break_model": ""}'], project_dir="warm"), 240)
    assert found["state"] == "SUCCESS"
    results = {one["unique_id"] for one in artifact(server, found, "run_results.json")["results"]}
    assert "model.jaffle_shop.orders" in results
    assert "model.jaffle_shop.stg_orders" not in results


def test_an_invocation_that_dbt_cannot_understand_keeps_no_results_of_another(server):
    found = server.wait(server.post(["build", "--selector", "nothing"], project_dir="warm"), 240)
    assert (found["state"], found["exc_type"]) == ("FAILURE", "DbtError")
    assert (
        "run_results.json"
        not in server.client.get(f"/invocations/{found['task_id']}/artifacts").json()["artifacts"]
    )
