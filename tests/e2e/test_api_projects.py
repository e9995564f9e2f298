"""Projects that a server of this library runs, with a real dbt and duckdb, through a whole Airflow."""

import contextlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from example_runs import WARNING
from harness import Run, dags_in, until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

# What a server needs is in an environment of its own: `nox -s server`.
if importlib.util.find_spec("huey") is None:
    pytest.skip("`nox -s server` runs it", allow_module_level=True)
sys.path.append(str(ROOT / "tests/server"))
from serving import Server  # noqa: E402

pytestmark = [pytest.mark.server, pytest.mark.newest]

PRODUCER = "build.dbt_build"


@pytest.fixture(scope="module")
def api_shop(project, parse, tmp_path_factory):
    """The example project where the server has it, with a test that warns."""
    directory = tmp_path_factory.mktemp("served") / "jaffle_shop"
    shutil.copytree(project, directory)
    (directory / "tests/dear_payments.sql").write_text(WARNING)
    return parse(directory)


@pytest.fixture(scope="module")
def server(api_shop, tmp_path_factory):
    home = tmp_path_factory.mktemp("server")
    env = {"JAFFLE_SHOP_DB": str(home / "shop.duckdb"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    projects = {"jaffle_shop": {"directory": str(api_shop), "targets": ["dev"], "env": env}}
    config = home / "server.yml"
    config.write_text(yaml.safe_dump({"state_dir": "state", "projects": projects}))
    with Server(config) as running:
        yield running


@pytest.fixture(scope="module")
def dags(airflow, server, api_shop):
    for conn_id, token in (("dbt_api", server.token), ("dbt_api_refused", "of-somebody-else")):
        airflow.client.create_connection(
            conn_id,
            "http",
            host="127.0.0.1",
            port=server.port,
            extra=json.dumps({"bearer_token": token}),
        )
    environment = {
        "JAFFLE_SHOP_MANIFEST": str(api_shop / "target/manifest.json"),
        "JAFFLE_SHOP_RETRIES": "1",
    }
    files = (ROOT / "examples/jaffle_shop_api_dag.py", HERE / "api_dags/api_cases.py")
    with dags_in(airflow, *files, env=environment):
        yield


@pytest.fixture
def start(airflow, dags):
    return lambda dag_id, conf=None: Run.start(airflow, dag_id, conf)


def invocations_of(server, run):
    """Return the invocations of a run, the first one first."""
    return [each for each in reversed(server.all_pages()) if run.run_id in each["task_id"]]


@contextlib.contextmanager
def nothing_begins(server):
    """For as long as the block lasts, leave what is posted in the queue."""
    workers = server.children()["workers"]
    held = [workers, *workers.children(recursive=True)]
    for process in held:
        process.suspend()
    try:
        yield
    finally:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def kill_and_start(server):
    """End a server with all of its processes at once, as the loss of its host does, and start it again."""
    for process in [server.process, *psutil.Process(server.process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.wait()
    server.start()


def test_the_example_runs_and_its_retry_builds_what_failed_and_one_node_can_be_cleared(
    start, server, api_shop
):
    revenue = api_shop / "models/marts/daily_revenue.sql"
    whole = revenue.read_text()
    revenue.write_text(f"{whole}\nselect nothing from nowhere")
    try:
        run = start("jaffle_shop_api")
        run.wait_for_log(PRODUCER, "daily_revenue ERROR")
    finally:
        revenue.write_text(whole)
    until(lambda: run.states.get("build.raw_orders") == "success", "a node is green before the retry")
    run.end()
    assert run.state == "success", run.log(PRODUCER, attempt=2)
    assert set(run.states.values()) == {"success"}
    assert run.tasks[PRODUCER].try_number == 2
    first, second = invocations_of(server, run)
    assert (first["state"], second["state"]) == ("FAILURE", "SUCCESS")
    assert "raw_orders" not in " ".join(second["command"])
    ends = [item.end_date for name, item in run.sensors().items() if name.endswith("raw_orders")]
    assert all(end < run.tasks[PRODUCER].start_date for end in ends)
    run.wait_for_log(PRODUCER, "nodes that are not done", attempt=2)
    assert any(node["status"] == "warn" for node in run.results())
    assert server.token not in run.log(PRODUCER, attempt=1)

    again = run.cleared("build.customers")
    assert again.state == "success"
    *_, alone = invocations_of(server, run)
    assert "build.customers@" in alone["task_id"]
    assert alone["state"] == "SUCCESS"
    assert "customers OK" in again.log("build.customers", attempt=2, until="customers OK")


def test_a_node_that_fails_is_red_with_the_words_of_the_database_and_the_rest_is_green(start, server):
    run = start("jaffle_shop_api", {"break_model": "orders"}).ended()
    assert run.state == "failed"
    assert "build.orders" in run.with_state("failed")
    assert {"build.raw_orders", "build.stg_orders"} <= run.with_state("success")
    assert "order_totl" in run.log("build.orders", until="order_totl")
    assert [each["state"] for each in invocations_of(server, run)] == ["FAILURE", "FAILURE"]


def test_a_deferred_producer_needs_no_worker_while_dbt_runs(start, server):
    run = start("api_deferred").ended()
    assert run.state == "success"
    assert set(run.states.values()) == {"success"}
    (invocation,) = invocations_of(server, run)
    assert invocation["state"] == "SUCCESS"
    assert "customers OK" in run.log("shop.dbt_build", until="customers OK")


def test_a_token_of_somebody_else_fails_all_with_that_reason(start, server):
    run = start("api_refused").ended()
    assert run.state == "failed"
    assert "HTTP 401" in run.log("shop.dbt_build", until="HTTP 401")
    assert "HTTP 401" in run.log("shop.customers", until="HTTP 401")
    assert not invocations_of(server, run)


def test_what_a_killed_worker_has_posted_is_followed_by_the_next_one(start, server, airflow):
    with nothing_begins(server):
        run = start("jaffle_shop_api")
        run.wait_for_log(PRODUCER, "The server has accepted the invocation")
        task = psutil.Process(run.tasks[PRODUCER].pid)
        assert task.pid in airflow.pids()
        for process in (task.parent(), task):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    run.end()
    assert run.state == "success", run.log(PRODUCER, attempt=2)
    assert set(run.states.values()) == {"success"}
    assert run.tasks[PRODUCER].try_number == 2
    (invocation,) = invocations_of(server, run)
    assert invocation["state"] == "SUCCESS"


def test_what_waits_on_a_server_that_is_killed_runs_when_it_is_back(start, server):
    with nothing_begins(server):
        run = start("jaffle_shop_api")
        run.wait_for_log(PRODUCER, "The server has accepted the invocation")
        kill_and_start(server)
    run.end()
    assert run.state == "success", run.log(PRODUCER)
    assert run.tasks[PRODUCER].try_number == 1
    (invocation,) = invocations_of(server, run)
    assert invocation["state"] == "SUCCESS"


def test_what_runs_on_a_server_that_is_killed_is_lost_and_the_next_attempt_builds_it(start, server):
    run = start("jaffle_shop_api")
    until(lambda: [each["state"] for each in invocations_of(server, run)] == ["STARTED"], "dbt runs")
    kill_and_start(server)
    run.end()
    assert run.state == "success", run.log(PRODUCER, attempt=2)
    assert set(run.states.values()) == {"success"}
    assert run.tasks[PRODUCER].try_number == 2
    lost, built = invocations_of(server, run)
    assert built["state"] == "SUCCESS"
    assert lost["state"] != "SUCCESS"
    run.wait_for_log(PRODUCER, "the worker that ran dbt was killed")
