"""What keeps dbt from running, or from coming to its nodes: one line says it, on a worker and in a triggerer alike."""

import asyncio
import json
import sys
import uuid
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseHook, Connection
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult
from harness import until
from kubernetes import client, config
from kubernetes.client import models as k8s

from dbt_watch import DbtProfile
from dbt_watch.core.command import Selection
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.outcome import Producer, decide
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.local.localkube import Image, LocalKube, Timings
from dbt_watch.producers import dbt_trigger
from dbt_watch.producers.pods import operator as pod
from dbt_watch.producers.pods.operator import producer_class
from dbt_watch.profiles.dbt_profile import PROFILES_DIR

ORDERS = "model.jaffle_shop.orders"
NOWHERE = "/nowhere/jaffle_shop.duckdb"


@pytest.fixture(scope="module")
def kube(project, warm_dbt):
    place = "/usr/app/shop"
    images = {
        "shop:1": Image(venv=sys.prefix, mounts={**warm_dbt, place: project}, workdir=place),
        "shop:without-dbt": Image(mounts={place: project}, workdir=place),
    }
    with LocalKube(images, timings=Timings(pull_error=0.3)) as kube:
        yield kube


class Airflow:
    """Stands for the supervisor, and for the XComs of one task."""

    def __init__(self):
        self.pages = {}

    def send(self, message):
        return TaskStatesResult(task_states={"run": {}})

    async def push(self, key, value):
        self.pages[key] = value

    async def read_back(self):
        reader = JournalReader()
        read_now(reader, self.pages.get)
        return reader

    def journal(self):
        reader = JournalReader()
        read_now(reader, self.pages.get)
        return reader.state


class Task:
    """A producer in its last attempt, run without a whole Airflow."""

    def __init__(self, kube, graph, monkeypatch, deferrable, arguments):
        self.airflow = Airflow()
        self.deferrable = deferrable
        self.ti = SimpleNamespace(
            id=uuid.uuid4(),
            dag_id="shop",
            task_id="dbt_build",
            run_id="run",
            try_number=1,
            max_tries=0,
            map_index=-1,
            start_date=datetime.now(timezone.utc),
            get_ti_count=lambda **_: 0,
            xcom_push=lambda key, value, **_: self.airflow.pages.__setitem__(key, value),
        )
        dag_run = SimpleNamespace(run_id="run", logical_date=None)
        dag = SimpleNamespace(dag_id="shop", parent_dag=None)
        self.context = {
            "ti": self.ti, "task_instance": self.ti, "run_id": "run", "dag": dag, "dag_run": dag_run
        }  # fmt: skip
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", self.airflow, raising=False)
        monkeypatch.setattr(pod, "get_current_context", lambda: self.context)
        monkeypatch.setattr(dbt_trigger, "JournalStore", lambda _: self.airflow)
        pod_arguments = {"image": "shop:1", "namespace": "default", "cmds": ["dbt"], **arguments}
        self.make = lambda: producer_class()(
            task_id="dbt_build",
            name="shop",
            build={},
            selection=Selection(),
            graph=graph,
            selected=frozenset(graph.nodes),
            watched={"shop.orders": (ORDERS,)},
            deferrable=deferrable,
            kubernetes_conn_id=None,
            config_file=str(kube.kubeconfig),
            startup_check_interval_seconds=0.1,
            poll_interval=0.1,
            **pod_arguments,
        )

    def run(self):
        """Run it to its end, deferred or not."""
        try:
            self.make().execute(self.context)
        except TaskDeferred as deferral:
            trigger = deferral.trigger
            trigger.task_instance = self.ti
        event = asyncio.run(trigger._event())
        self.make().trigger_reentry(self.context, event)

    def error(self):
        """Run it, and give the text of its error."""
        with pytest.raises(DbtWatchError) as caught:
            self.run()
        return str(caught.value)

    def reason_of_orders(self):
        """Return what a sensor says."""
        journal = self.airflow.journal()
        return decide(Producer("failed", journal.closed), [(ORDERS, journal.entries.get(ORDERS))]).reason


@pytest.fixture(params=[False, True], ids=["worker", "triggerer"])
def task_of(kube, graph, monkeypatch, request):
    return lambda **arguments: Task(kube, graph, monkeypatch, request.param, arguments)


MISSING_SECRET = k8s.V1EnvVar(
    name="PASSWORD",
    value_from=k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name="db", key="password")),
)
PROFILES = k8s.V1Volume(name="profiles", secret=k8s.V1SecretVolumeSource(secret_name="profiles"))  # noqa: S106 - its name
MOUNT = k8s.V1VolumeMount(name="profiles", mount_path="/profiles")

# What says why, and so must be said once; what else must be there.
CASES = {
    "no such image": (
        {"image": "registry.invalid/shop:2"},
        "ErrImagePull",
        ["registry.invalid/shop:2: not found"],
    ),
    "no such namespace": ({"namespace": "nowhere"}, 'namespaces "nowhere" not found', []),
    "no such secret": (
        {"env_vars": [MISSING_SECRET], "startup_timeout_seconds": 1},
        'secret "db" not found',
        ["More than 1s", "CreateContainerConfigError"],
    ),
    "no such secret to mount": (
        {"volumes": [PROFILES], "volume_mounts": [MOUNT], "startup_timeout_seconds": 1},
        'secret "profiles" not found',
        ["More than 1s", "FailedMount"],
    ),
    "no dbt in the image": (
        {"image": "shop:without-dbt"},
        'exec: "dbt": executable file not found',
        ["exit code 128", "StartError"],
    ),
    "no such project_dir": (
        {"project_dir": "/usr/app/nowhere"},
        "'/usr/app/nowhere' does not exist",
        ["exit code 2", "'--project-dir'"],
    ),
    "no profile": ({"profiles_dir": "/usr"}, "Could not find profile named 'jaffle_shop'", ["exit code 2"]),
    "no database": (
        {"env_vars": {"JAFFLE_SHOP_DB": NOWHERE}},
        f'Cannot open file "{NOWHERE}": No such file or directory',
        ["exit code 2"],
    ),
}


def say_why(task, why, more):
    """Run a task, and tell of its error and of a node's reason whether they say why: once, and in one line."""
    for text in (task.error(), task.reason_of_orders()):
        assert text.count(why) == 1, text
        assert all(words in text for words in more), text
        assert "\n" not in text
        assert "HTTP response" not in text


@pytest.mark.parametrize("case", CASES)
def test_the_task_and_each_node_say_why_once_in_one_line(task_of, case):
    arguments, why, more = CASES[case]
    say_why(task_of(**arguments), why, more)


def test_a_cluster_without_room_is_quoted(task_of, kube):
    kube.faults.no_room()
    try:
        say_why(
            task_of(schedule_timeout_seconds=1), "1 Insufficient memory", ["More than 1s", "Unschedulable"]
        )
    finally:
        kube.faults.no_room(None)


def test_a_quota_that_is_used_up_is_quoted(task_of, kube):
    kube.faults.limit_pods("default", 0)
    try:
        say_why(task_of(), "exceeded quota: compute-quota", ["is forbidden"])
    finally:
        kube.faults.limit_pods("default", None)


@pytest.fixture
def warehouse(monkeypatch):
    """A connection with a password that shows."""
    found = Connection(conn_id="warehouse", conn_type="duckdb", password="m4rk-of-a-profile")  # noqa: S106 - made up
    monkeypatch.setattr(BaseHook, "get_connection", lambda _: found)
    return found


@pytest.fixture
def secrets_left(kube):
    """Return the Secrets that there are once all pods are gone."""

    def left():
        with config.new_client_from_config(str(kube.kubeconfig)) as connection:
            api = client.CoreV1Api(connection)
            until(lambda: not api.list_namespaced_pod("default").items, "a pod is left", pause=0.05)
            return [item.metadata.name for item in api.list_namespaced_secret("default").items]

    return left


def test_what_a_database_says_of_a_profile_is_told_without_its_secret(task_of, warehouse, secrets_left):
    profile = DbtProfile(
        "warehouse", to_profile=lambda found: {"path": f"/nowhere/{found.password}/shop.duckdb"}
    )
    task = task_of(profile=profile, profiles_dir=PROFILES_DIR)
    say_why(task, 'Cannot open file "*****": No such file', ["exit code 2"])
    assert warehouse.password not in json.dumps(task.airflow.pages)
    assert not secrets_left()


def test_what_a_connection_lacks_is_told_and_nothing_is_made(task_of, kube, warehouse, secrets_left):
    before = len(kube.pods())
    task = task_of(profile=DbtProfile("warehouse", type="postgres", schema="shop"), profiles_dir=PROFILES_DIR)
    say_why(task, "connection warehouse: conn_type='duckdb': expected postgres", [])
    assert len(kube.pods()) == before
    assert not secrets_left()


def test_a_worker_without_the_right_to_make_secrets_is_told_so(task_of, kube, warehouse, secrets_left):
    warehouse.host = "/tmp/shop.duckdb"  # noqa: S108 - in the pod
    task = task_of(profile=DbtProfile("warehouse"), profiles_dir=PROFILES_DIR)
    with kube.faults.answer(403, path="*/secrets", methods=["POST"]) as refused:
        say_why(task, "the pod did not run dbt: ", [])
    assert refused.hits
    assert not secrets_left()
