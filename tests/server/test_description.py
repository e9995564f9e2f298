"""Requests that are made from the description of the API: each answer is one that it describes, and none is a failure."""

import os

import pytest
from hypothesis import HealthCheck, settings
from server_desk import ServerDesk
from serving import command, write_settings

schemathesis = pytest.importorskip("schemathesis", reason="`nox -s server` installs it")

EXAMPLES = int(os.environ.get("DBT_WATCH_SERVER_EXAMPLES", "60"))


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The description of a server that has an invocation, without what a stream takes."""
    desk = ServerDesk(write_settings(tmp_path_factory.mktemp("described"), ("shop", "bank")))
    desk.post(command(say="hello"), "one", project_dir="shop")
    desk.runner.work()
    schema = schemathesis.openapi.from_asgi("/openapi.json", desk.app)
    schema.config.headers = {"Authorization": f"Bearer {desk.token}"}
    return schema


schema = schemathesis.pytest.from_fixture("described")


@pytest.mark.server
@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_is_described(case):
    case.call_and_validate()


def test_every_path_is_described_with_its_answers(desk):
    paths = desk.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/invocations", "/invocations/{task_id}", "/invocations/{task_id}/abort", "/invocations/{task_id}/log",
        "/invocations/{task_id}/artifacts", "/invocations/{task_id}/artifacts/{name}", "/projects", "/healthz", "/readyz",
        "/metrics",
    }  # fmt: skip
    assert "409" in paths["/invocations"]["post"]["responses"]
    assert "X-Log-Offset" in paths["/invocations/{task_id}/log"]["get"]["responses"]["200"]["headers"]
