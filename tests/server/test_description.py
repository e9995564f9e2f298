"""Requests that are made from the description of the API: each answer is one that it describes, and none is a failure."""

import contextlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from server_desk import ServerDesk
from serving import command, write_settings

from dbt_watch.server.worker.hosts import WorkerHosts

schemathesis = pytest.importorskip("schemathesis", reason="`nox -s server` installs it")

checks = pytest.importorskip("schemathesis.specs.openapi.checks")

EXAMPLES = int(os.environ.get("DBT_WATCH_SERVER_EXAMPLES", "60"))


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The description of a server that has an invocation, without what a stream takes."""
    desk = ServerDesk(
        write_settings(
            tmp_path_factory.mktemp("described"), ("shop", "bank"), limits={"body_bytes": 10_000_000}
        )
    )
    WorkerHosts(desk.database).beat("here", 1)
    desk.post(command(say="hello"), "one", project_dir="shop")
    desk.runner.work()
    schema = schemathesis.openapi.from_asgi("/openapi.json", desk.app)
    schema.config.headers = {"Authorization": f"Bearer {desk.token}"}
    return schema


@pytest.mark.server
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_that_is_described(described, mode):
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            # The description cannot say which words are commands of dbt.
            case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])

        # There is nothing that can be wrong in a request that has no parameter.
        with contextlib.suppress(Unsatisfiable):
            check()


def test_every_path_is_described_with_its_answers(desk):
    paths = desk.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/invocations", "/invocations/{task_id}", "/invocations/{task_id}/abort", "/invocations/{task_id}/log",
        "/invocations/{task_id}/artifacts", "/invocations/{task_id}/artifacts/{name}", "/projects", "/healthz", "/readyz",
        "/metrics",
    }  # fmt: skip
    assert "409" in paths["/invocations"]["post"]["responses"]
    assert "X-Log-Offset" in paths["/invocations/{task_id}/log"]["get"]["responses"]["200"]["headers"]
