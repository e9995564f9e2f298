"""The task of a command that is no build, with a pod that is a process, on a worker and deferred; without a whole Airflow."""

import asyncio
import contextlib
import uuid
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseHook, Connection
from harness import until
from kubernetes import client, config

from dbt_watch import DbtProfile
from dbt_watch.airflow.execution import executing
from dbt_watch.exceptions import DbtRunFailed, PodLost
from dbt_watch.local.localkube import Image, LocalKube, Timings
from dbt_watch.producers.pods.command_operator import command_class
from dbt_watch.producers.pods.pod_profile import PodProfile
from dbt_watch.profiles.dbt_profile import PROFILES_DIR

# Writes what it was called with, as a macro logs it, and ends as its target says.
DBT = """\
say() {
  printf '{"data": {%s}, "info": {"name": "%s", "level": "%s", "ts": "2026-11-26T20:57:07.000000Z", "msg": "%s", "invocation_id": "i"}}\\n' "$@"
}
say '' MainReportVersion info 'Running with dbt=1.11.16'
say '' JinjaLogInfo info "$(printf '%s' "$*" | tr -d '\\042')"
if [ -e /etc/dbt-watch/profiles.yml ]; then
  say '' JinjaLogInfo info "$(env | sed -n 's/^DBT_ENV_SECRET_PROFILE[A-Z_0-9]*=/signed in with /p')"
fi
case "$*" in *slowly*) sleep 2;; esac
case "$*" in *fails*) say '' RunningOperationCaughtError error 'no such macro'; exit 1;; esac
say '"elapsed": 1.5' CommandCompleted debug done
"""


@pytest.fixture(scope="module")
def kube(tmp_path_factory):
    directory = tmp_path_factory.mktemp("image")
    (directory / "dbt.sh").write_text(DBT)
    with LocalKube(
        {"shop:1": Image(mounts={"/usr/app": directory}, workdir="/usr/app")}, timings=Timings(pull_error=0.3)
    ) as kube:
        yield kube


@pytest.fixture(params=[False, True], ids=["on a worker", "deferred"])
def run(request, kube):
    """Return a function that runs a command to its end, and returns what the task has left as its result."""
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
        return (await anext(trigger.run())).payload

    def run(*words, image="shop:1", profile=None, starts_within=240, **command):
        def make():
            return command_class()(
                task_id="docs",
                name="docs",
                namespace="default",
                image=image,
                cmds=["sh", "dbt.sh"],
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


def test_dbt_is_called_with_the_words_and_its_log_becomes_the_result(run, caplog):
    caplog.set_level("INFO")
    result = run("docs", "generate", target="prod")
    message = result.pop("message")
    assert result == {"command": "docs generate", "status": "success", "seconds": 1.5, "nodes": {}}
    assert message.endswith("--no-use-colors docs generate --target prod")


def test_the_arguments_of_a_macro_reach_dbt_as_they_are(run):
    result = run("run-operation", "grant", args={"role": "$(HOME) $$"})
    assert result["message"].endswith("run-operation grant --args {role: $(HOME) $$}")


def test_a_command_that_fails_fails_the_task_with_dbts_words(run):
    with pytest.raises(DbtRunFailed, match="dbt ended with exit code 1: no such macro"):
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
def test_a_profile_that_is_made_of_a_connection_comes_and_goes_with_the_pod(run, all_gone, capsys):
    result = run("docs", "generate", target="prod", profile=WAREHOUSE)
    assert result["message"] == "signed in with ***"
    log = capsys.readouterr().out
    assert PASSWORD not in log
    assert "--profiles-dir /etc/dbt-watch --profile shop --target prod" in log
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
            run("docs", "slowly", profile=WAREHOUSE)
    (secret,) = secrets()
    assert not secret.metadata.owner_references
    assert run("docs", "slowly", profile=WAREHOUSE)["status"] == "success"
    all_gone()


def test_the_pods_are_deleted(kube):
    until(lambda: all(pod.deleted_at for pod in kube.pods()), "a pod is left", pause=0.05)
