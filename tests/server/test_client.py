"""The library's own client against the server: that each means what the other says."""

import json
import os
import signal
import threading
import time

import pytest
import yaml
from airflow.sdk import Connection
from serving import Server, command, copy_example, write_settings

from dbt_watch.core.command import Selection, server_arguments
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.results import NodeInfo
from dbt_watch.exceptions import ServerError
from dbt_watch.producers.api import client as module
from dbt_watch.producers.api.client import WorkerClient
from dbt_watch.producers.api.invocation_ids import AttemptKey
from dbt_watch.producers.api.invocation_log import InvocationFollowing
from dbt_watch.producers.build_watch import BuildWatch

pytestmark = pytest.mark.server

KEY = AttemptKey(
    deployment="https://airflow.example ",
    dag_id="shop",
    run_id="manual__2026-01-01T00:00:00.123456+00:00",
    map_index=2,
    producer="build.dbt_build",
    task_id="build.dbt_build",
    life="2026-01-02T00:00:00+00:00",
    generation="2",
    attempt=1,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of a project of the stand-in, and of the example with a real dbt."""
    home = tmp_path_factory.mktemp("client")
    config = write_settings(home, workers=2)
    settings = yaml.safe_load(config.read_text())
    env = {"JAFFLE_SHOP_DB": str(home / "shop.duckdb"), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    settings["projects"]["jaffle_shop"] = {
        "directory": str(copy_example(home)),
        "targets": ["dev"],
        "env": env,
    }
    config.write_text(json.dumps(settings))
    with Server(config) as running:
        yield running


@pytest.fixture
def client_of(server, monkeypatch):
    def make(token=None):
        extra = json.dumps({"bearer_token": token or server.token})
        connection = Connection(conn_id="dbt_api", conn_type="http", host=server.url, extra=extra)
        monkeypatch.setattr(module.BaseHook, "get_connection", classmethod(lambda *_: connection))
        return WorkerClient("dbt_api", on_tick=lambda: None)

    return make


def follow(client, task_id, nodes):
    seen, began = {}, time.monotonic()
    watch = BuildWatch(nodes, attempt=1, show=lambda line: seen.setdefault(line, time.monotonic() - began))
    end = client.run(InvocationFollowing(client.server, task_id, watch).steps())
    watch.end(end.exit_code, end.reason, run_results=end.run_results, no_log=end.no_log)
    return watch, end, seen


def test_the_server_takes_an_id_of_ours_and_its_log_is_followed_live_with_a_real_dbt(
    server, client_of, parse
):
    client = client_of()
    shop = parse(server.home / "jaffle_shop", JAFFLE_SHOP_DB=str(server.home / "parse.duckdb"))
    graph = load_manifest(shop / "target/manifest.json")
    words = server_arguments({"vars": {"batch": "b", "break_model": "orders"}}, Selection())
    posted = client.run(client.server.post(words, KEY.invocation_id, "jaffle_shop"))
    watch, end, seen = follow(client, posted.task_id, dict(graph.nodes))
    assert (end.exit_code, end.no_log) == (1, "")
    found = {entry.unique_id: entry.status for entry in watch.results}
    assert found["model.jaffle_shop.orders"] == "error"
    assert found["seed.jaffle_shop.raw_orders"] == "success"
    first = min(at for line, at in seen.items() if "raw_" in line and " OK" in line)
    assert first < max(seen.values())
    assert [each.task_id for each in client.run(client.server.open_invocations())] == []


def test_of_two_clients_with_one_id_the_second_gets_what_the_first_has_posted(server, client_of):
    one, other, found = client_of(), client_of(), []
    words = command(sleep=5)

    def post():
        found.append(other.run(other.server.post(words, "shared-1", "shop")).state)

    thread = threading.Thread(target=post)
    thread.start()
    one.run(one.server.post(words, "shared-1", "shop"))
    thread.join()
    assert found[0] in {"PENDING", "STARTED"}
    assert follow(one, "shared-1", {})[1].exit_code == 0
    assert [what for what, who, *_ in server.runs() if who == "shared-1"].count("begin") == 1
    with pytest.raises(ServerError, match="HTTP 409"):
        other.run(other.server.post(command(sleep=2), "shared-1", "shop"))


def test_a_client_that_hangs_up_harms_no_invocation(server, client_of):
    client = client_of()
    client.run(client.server.post(command(sleep=1), "left-1", "shop"))
    client.close()
    assert follow(client_of(), "left-1", {})[1].exit_code == 0


def test_an_abort_ends_what_runs(server, client_of):
    client = client_of()
    client.run(client.server.post(command(sleep=60), "aborted-1", "shop"))
    server.wait_for_begin("aborted-1")
    client.run(client.server.abort("aborted-1"))
    end = follow(client, "aborted-1", {})[1]
    assert (end.exit_code, end.reason) == (None, "the invocation was aborted")


def test_a_worker_that_is_killed_is_told_of(server, client_of):
    client = client_of()
    client.run(client.server.post(command(sleep=60), "killed-1", "shop"))
    os.kill(server.wait_for_begin("killed-1"), signal.SIGKILL)
    end = follow(client, "killed-1", {"model.shop.a": NodeInfo("a", "model")})[1]
    assert end.exit_code is None
    assert "DbtKilled" in end.reason


@pytest.mark.parametrize("which", ["wrong", "expired", "foreign"])
def test_a_token_that_is_not_for_this_is_refused_with_the_servers_words(
    server, client_of, monkeypatch, which
):
    monkeypatch.setattr("dbt_watch.producers.api.protocol.CREDENTIALS_PATIENCE", 1.0)
    token = token_that_is(which, server)
    client = client_of(token)
    words = "the name of a project" if which == "foreign" else "HTTP 401: a valid token is required"
    with pytest.raises(ServerError, match=words) as caught:
        client.run(client.server.post(command(), f"refused-{which}", "shop"))
    assert token not in str(caught.value)


def token_that_is(which, server):
    if which == "wrong":
        return server.token[:-2] + "xx"
    rights = ["--project", "jaffle_shop"] if which == "foreign" else []
    token = server.run("token", "make", which, *rights).stdout.strip()
    if which == "expired":
        server.run("token", "revoke", which)
    return token
