"""The task of a command that is no build, with a pod that is a process, on a worker and deferred; without a whole Airflow."""

import asyncio
import contextlib
import uuid
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseHook, Connection
from harness import until
from kubernetes import client, config

from dbt_watch import DbtProfile
from dbt_watch.airflow import trigger_events
from dbt_watch.airflow.execution import executing
from dbt_watch.exceptions import DbtRunFailed, PodLost
from dbt_watch.local.localkube import LocalKube, Timings
from dbt_watch.producers.pods.command_operator import command_class
from dbt_watch.producers.pods.pod_profile import PodProfile
from dbt_watch.profiles.dbt_profile import PROFILES_DIR
from dbt_watch.testing import FakeDbt

MANIFEST = Path(__file__).parents[1] / "lineage/recordings/manifest.json"
# Tells the password that it was given, and goes on as dbt.
SIGNED_IN = [
    "sh",
    "-c",
    """test -s /etc/dbt-watch/profiles.yml && env | sed -n 's/^DBT_ENV_SECRET_PROFILE[A-Z_0-9]*=/signed in with /p'
    exec dbt "$@\"""",
    "dbt",
]


@pytest.fixture(scope="module")
def dbt():
    return (
        FakeDbt(MANIFEST)
        .answers("run-operation grant", "granted")
        .answers("run-operation fails", error="no such role")
        .answers("run-operation slowly", seconds=2)
    )


@pytest.fixture(scope="module")
def kube(dbt):
    with LocalKube({"shop:1": dbt.image()}, timings=Timings(pull_error=0.3)) as kube:
        yield kube


@pytest.fixture(params=[False, True], ids=["on a worker", "deferred"])
def run(request, kube, monkeypatch):
    """Return a function that runs a command to its end, and returns what the task has left as its result."""
    monkeypatch.setattr(trigger_events, "SETTLED_AFTER_S", 0.0)  # no scheduler has to notice anything
    xcoms = {}
    ti = SimpleNamespace(
        id=uuid.uuid4(),
        dag_id="shop",
        task_id="docs",
        run_id="run",
        try_number=1,
        max_tries=0,
        map_index=-1,
        start_date=datetime.now(timezone.utc),
        xcom_push=lambda key, value, **_: xcoms.__setitem__(key, value),
    )
    dag_run = SimpleNamespace(run_id="run", logical_date=None)
    dag = SimpleNamespace(dag_id="shop", parent_dag=None)
    context = {"ti": ti, "task_instance": ti, "run_id": "run", "dag": dag, "dag_run": dag_run}

    async def event_of(trigger):
        trigger.task_instance = ti
        return (await anext(trigger.run())).payload

    def run(*words, image="shop:1", profile=None, starts_within=240, **command):
        def make():
            return command_class()(
                task_id="docs",
                name="docs",
                namespace="default",
                image=image,
                cmds=["dbt"] if profile is None else SIGNED_IN,
                command={"words": list(words), **command},
                profile=profile,
                profiles_dir=None if profile is None else PROFILES_DIR,
                deferrable=request.param,
                kubernetes_conn_id=None,
                config_file=str(kube.kubeconfig),
                startup_check_interval_seconds=0.1,
                startup_timeout_seconds=starts_within,
                poll_interval=0.1,
            )

        operator = make()
        with executing(operator):
            try:
                operator.execute(context)
            except TaskDeferred as deferral:
                event = asyncio.run(event_of(deferral.trigger))
                make().trigger_reentry(context, event)
        return xcoms["return_value"]

    return run


def test_dbt_is_called_with_the_words_and_its_log_becomes_the_result(run, dbt):
    result = run("docs", "generate", "--select", "raw_orders", target="prod")
    assert result.pop("seconds") > 0
    assert result == {
        "command": "docs generate --select raw_orders",
        "status": "success",
        "message": "Catalog written to target/catalog.json",
        "nodes": {"success": 1},
    }
    words = ("--no-use-colors", "docs", "generate", "--select", "raw_orders", "--target", "prod")
    assert dbt.commands[-1].words[-len(words) :] == words


def test_the_arguments_of_a_macro_reach_dbt_as_they_are(run, dbt):
    assert run("run-operation", "grant", args={"role": "$(HOME) $$"})["message"] == "granted"
    assert (dbt.commands[-1].macro, dbt.commands[-1].args) == ("grant", {"role": "$(HOME) $$"})


def test_a_command_that_fails_fails_the_task_with_dbts_words(run):
    with pytest.raises(DbtRunFailed, match=r"exit code 1: Encountered an error .*: no such role"):
        run("run-operation", "fails")


# The provider's own trigger, which waits for a deferred one, goes on to watch the events of its pod for minutes.
@pytest.mark.parametrize("run", [False], ids=["on a worker"], indirect=True)
def test_a_pod_that_never_starts_is_told_with_the_reason(run):
    with pytest.raises(PodLost, match=r"the pod did not run dbt: .*(ErrImagePull|ImagePullBackOff)"):
        run("docs", "generate", image="shop:2", starts_within=3)


PASSWORD = "s3cret-word-of-the-shop"  # noqa: S105 - made up
WAREHOUSE = DbtProfile("warehouse", type="postgres", schema="marts", name="shop")


@pytest.fixture
def warehouse(monkeypatch):
    connection = Connection(
        conn_id="warehouse", conn_type="postgres", host="db", login="dbt", password=PASSWORD, schema="shop"
    )
    monkeypatch.setattr(BaseHook, "get_connection", lambda _: connection)


@pytest.fixture
def secrets(kube):
    """Return a function that lists the Secrets of profiles."""
    api = client.CoreV1Api(config.new_client_from_config(str(kube.kubeconfig)))
    return lambda: api.list_namespaced_secret("default").items


@pytest.fixture
def all_gone(secrets):
    """Return a function that waits until no Secret is left."""
    return lambda: until(lambda: not secrets(), "a Secret is left", pause=0.05)


@pytest.mark.usefixtures("warehouse")
def test_a_profile_that_is_made_of_a_connection_comes_and_goes_with_the_pod(run, dbt, all_gone, capsys):
    assert run("docs", "generate", target="prod", profile=WAREHOUSE)["status"] == "success"
    log = capsys.readouterr().out
    assert "signed in with ***" in log
    assert PASSWORD not in log
    words = ("--profiles-dir", "/etc/dbt-watch", "--profile", "shop", "--target", "prod")
    assert dbt.commands[-1].words[-len(words) :] == words
    all_gone()


@pytest.mark.usefixtures("warehouse")
@pytest.mark.parametrize("run", [False], ids=["on a worker"], indirect=True)
def test_a_pod_that_is_followed_gets_the_secret_that_its_worker_had_not_come_to_give_it(
    run, secrets, all_gone, monkeypatch
):
    class Died(BaseException):
        """The worker was killed: nothing is cleaned up."""

    def dies(*_):
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(PodProfile, "_give", dies)
        dying.setattr(PodProfile, "_undo", lambda *_: None)
        dying.setattr(command_class(), "cleanup", lambda *_, **__: None)
        with contextlib.suppress(Died):
            run("run-operation", "slowly", profile=WAREHOUSE)
    (secret,) = secrets()
    assert not secret.metadata.owner_references
    assert run("run-operation", "slowly", profile=WAREHOUSE)["status"] == "success"
    all_gone()


def test_the_pods_are_deleted(kube):
    until(lambda: all(pod.deleted_at for pod in kube.pods()), "a pod is left", pause=0.05)
