"""
What the fault tests share: one Postgres, one cluster, one Airflow that is struck again and again, and a table.

Without `--faults` only the quick ones run; `nox -s faults` runs all, and prints what was lost, doubled or late.
"""

import contextlib
import itertools
import json
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg2
import pytest
from kubernetes import client, config
from local_postgres import airflow_on, local_postgres
from proxy import Proxy
from psycopg2 import sql

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.airflow.waiting import CannotRun
from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
IMAGE = "steady:tests"
RUN_TIMEOUT = 400
THREADS = 4
MODELS = {f"{letter}{number}" for letter in "abc" for number in range(1, 5)} | {"last"}
SENSORS = {f"shop.{name}" for name in (*MODELS, "b1.test", "last.test")}


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def postgres():
    """The address of a Postgres that nothing but these tests uses; it listens on a socket in a directory."""
    with local_postgres("airflow", "warehouse") as host:
        yield host


# A sequence counts on though the transaction is undone.
REFUSE = """
create sequence if not exists refusals;
create or replace function refuse() returns trigger language plpgsql as $$
begin
    perform nextval('refusals');
    raise exception 'the disk is full';
end $$;
create trigger refuse before insert or update on xcom
    for each row when (new.key like 'journal\\_%') execute function refuse();
"""


@pytest.fixture
def meddling(postgres):
    """For as long as a block lasts, have Airflow's database do something; gives a cursor."""

    @contextlib.contextmanager
    def meddled(begin, end):
        with contextlib.closing(
            psycopg2.connect(host=postgres, user="postgres", dbname="airflow")
        ) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(begin)
            try:
                yield cursor
            finally:
                cursor.execute(end)

    return meddled


@pytest.fixture
def journal_refused(meddling):
    """For as long as a block lasts, have Airflow's database refuse the journal; gives how often it did so."""

    @contextlib.contextmanager
    def refused():
        with meddling(REFUSE, "drop trigger refuse on xcom") as cursor:

            def refusals():
                cursor.execute("select last_value from refusals where is_called")
                return (cursor.fetchone() or (0,))[0]

            before = refusals()
            yield lambda: refusals() - before

    return refused


@pytest.fixture(scope="session")
def warehouse(postgres):
    """What was built, as the warehouse itself knows it: how often each node, by schema."""

    def built(schema):
        query = sql.SQL("select node, count(*) from {}.built group by node").format(sql.Identifier(schema))
        with contextlib.closing(
            psycopg2.connect(host=postgres, user="postgres", dbname="warehouse")
        ) as connection:
            cursor = connection.cursor()
            try:
                cursor.execute(query)
            except psycopg2.errors.UndefinedTable:
                return Counter()  # dbt never came that far
            return Counter(dict(cursor.fetchall()))

    return built


@pytest.fixture(scope="session")
def project(postgres, parse, tmp_path_factory):
    directory = tmp_path_factory.mktemp("project") / "steady"
    shutil.copytree(HERE / "project", directory)
    return parse(directory, **dbt_env(postgres))


def dbt_env(postgres):
    return {"STEADY_HOST": postgres, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


@pytest.fixture(scope="session")
def cluster(project, postgres):
    # A socket works only where the directory itself is mounted, not a copy of it.
    mounts = {"/usr/app/steady": project, postgres: Mount(Path(postgres), shared=True)}
    image = Image(venv=sys.prefix, mounts=mounts, workdir="/usr/app/steady")
    with LocalKube(images={IMAGE: image}) as kube:
        yield kube


@pytest.fixture(scope="session")
def kubernetes(cluster):
    """The official client."""
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


class RevivedAirflow(LocalAirflow):
    """
    An Airflow whose scheduler is started again, as whatever runs one does, when it has ended of one known cause.

    With LocalExecutor it ends when the api-server answers 5xx to a task that is about to start, and goes on to do so until
    the worker gives up: that error cannot be handed from one process to another (Airflow 3.3.2, its issue 64476).
    """

    @contextlib.contextmanager
    def frozen(self, name):
        """For as long as a block lasts, a part does nothing, as on a machine that is suspended or out of memory."""
        parent = psutil.Process(self.component_pid(name))
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def check(self):
        try:
            super().check()
        except CannotRun as error:
            if "HTTPStatusError.__init__() missing" not in str(error):
                raise
            self.restart_component("scheduler", timeout=240)


@pytest.fixture(scope="session")
def airflow(project, cluster, postgres, tmp_path_factory):
    dags = tmp_path_factory.mktemp("dags")
    shutil.copytree(HERE / "dags", dags, dirs_exist_ok=True)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(cluster.kubeconfig)}}
    env = {
        **airflow_on(postgres),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "180",  # on a machine with much to do
        # A task whose worker died is given up after this many seconds, not after minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
        # The tasks of a scheduler that died are looked for as often.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        # A triggerer that was not heard of for twice this long is taken for dead.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "3",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "9",
        "STEADY_MANIFEST": str(project / "target/manifest.json"),
        "STEADY_IMAGE": IMAGE,
        "STEADY_ENV": json.dumps(dbt_env(postgres)),
    }
    running = RevivedAirflow(dags, env=env, keep_home=bool(os.environ.get("KEEP_AIRFLOW")))
    with Proxy(running.url) as proxy:
        running.env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{proxy.url}/execution/"
        with running:
            running.proxy = proxy
            # Its slots are fewer than the sensors of a project, and tasks that wait are counted too.
            running.client.create_pool("narrow", 4, include_deferred=True)
            yield running


@dataclass
class Row:
    """What a fault did to one kind of producer, in all its rounds."""

    fault: str
    producer: str
    rounds: int = 0
    equal: int = 0
    lost: int = 0
    doubled: int = 0
    delays: list = field(default_factory=list)


ROWS = {}
_number = itertools.count(1)


class Struck:
    """
    A run that something happens to.

    :param conf: of the run
    """

    def __init__(self, airflow, warehouse, dag_id="steady", **conf):
        self.airflow = airflow
        self.warehouse = warehouse
        self.dag_id = dag_id
        self.schema = f"run_{next(_number)}"
        self.run_id = airflow.trigger_dag(dag_id, {"schema": self.schema, **conf})

    @property
    def tasks(self):
        return {item.task_id: item for item in self.airflow.client.task_instances(self.dag_id, self.run_id)}

    def clear(self, *task_ids, **which):
        """Clear tasks as a person does, all by default."""
        self.airflow.client.clear_tasks(self.dag_id, self.run_id, task_ids or None, **which)

    def when(self, task_id, *states, timeout=120):
        """Wait until a task is in a state, and give the run."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            task = self.tasks.get(task_id)
            if task is not None and task.state in states:
                return self
            time.sleep(0.2)
        raise AssertionError(f"{task_id} is {task and task.state}, not one of {states}, after {timeout} s")

    def midway(self):
        """Wait until dbt has done about a third."""
        return self.when("shop.a1", "success", timeout=180)

    def when_all_is_built(self, timeout=120):
        """Wait until dbt has built all models, whoever may have noticed; give the run."""
        deadline = time.monotonic() + timeout
        while not set(self.warehouse(self.schema)) >= MODELS:
            assert time.monotonic() < deadline, f"dbt has not built everything after {timeout} s"
            time.sleep(0.2)
        return self

    def pod(self):
        """Return the name of the pod that dbt runs in."""
        return self.airflow.client.xcom(self.dag_id, self.run_id, "shop.dbt_build", "pod_name")

    def end(self):
        """Wait for the end; give the state of the run."""
        return self.airflow.wait_for_run(self.dag_id, self.run_id, RUN_TIMEOUT)

    def results(self):
        """Return the results that the sensors left, by unique_id."""
        values = [
            self.airflow.client.xcom(self.dag_id, self.run_id, task_id, "return_value") for task_id in SENSORS
        ]
        nodes = [node for value in values if value for node in value.get("nodes", [value])]
        return {node["unique_id"]: node for node in nodes}

    def reported(self, name):
        """Tell whether dbt said that a model was built before the last attempt; a word that a kill may cut off."""
        attempts = range(1, self.tasks["shop.dbt_build"].try_number)
        return any(f" {name} OK" in self.log("shop.dbt_build", attempt) for attempt in attempts)

    def log(self, task_id, attempt=1, *, until=""):
        deadline = time.monotonic() + 20
        while True:
            text = self.airflow.client.task_log(self.dag_id, self.run_id, task_id, attempt)
            if until in text or time.monotonic() > deadline:
                return text
            time.sleep(0.3)


# Where a producer follows dbt, and what the DAGs that have it so have behind their names.
PRODUCERS = {"on a worker": "", "deferred": "_deferred"}


@pytest.fixture(params=PRODUCERS)
def producer(request):
    """How the producer follows dbt. A fault that only one kind knows says so by a `parametrize` of its own."""
    return request.param


@pytest.fixture
def strike(airflow, warehouse, producer, request):
    """Start a run; at the end of the test, compare it with an undisturbed one."""
    row = ROWS.setdefault(request.node.name, Row(fault_of(request.node), producer))

    def start(dag_id="steady", **conf):
        return Struck(airflow, warehouse, dag_id + PRODUCERS[producer], **conf)

    def check(run):
        row.rounds += 1
        state = run.end()
        assert state == "success", run.log("shop.dbt_build", run.tasks["shop.dbt_build"].try_number)[-5000:]
        tasks, results, built = run.tasks, run.results(), warehouse(run.schema)
        states = {task_id: tasks[task_id].state for task_id in tasks}
        lost = {name for name in MODELS if f"model.steady.{name}" not in results or not built[name]}
        twice = {name for name, count in built.items() if count > 1 and run.reported(name)}
        row.lost += len(lost)
        row.doubled += len(twice)
        row.delays.append(max(delays(run, tasks, results), default=0.0))
        assert set(states.values()) == {"success"}, states
        assert not lost
        assert not twice, "\n".join(
            run.log("shop.dbt_build", attempt)[-5000:]
            for attempt in range(1, tasks["shop.dbt_build"].try_number + 1)
        )
        row.equal += 1
        return run

    def judge_failed(run, reason):
        row.rounds += 1
        state = run.end()
        tasks, built = run.tasks, warehouse(run.schema)
        assert state == "failed"
        green = {name for name in MODELS if tasks[f"shop.{name}"].state == "success"}
        failed = [task_id for task_id, task in tasks.items() if task.state == "failed"]
        assert green <= set(built), "what is green was built"
        # A model may be there of which dbt was killed before it could say so.
        assert len(set(built) - green) <= THREADS
        assert not {name for name, count in built.items() if count > 1}
        assert len(failed) == len(tasks) - len([task for task in tasks.values() if task.state == "success"])
        assert reason in run.log("shop.dbt_build", until=reason)
        assert reason in run.log("shop.last", until=reason)
        row.equal += 1
        return green

    def check_failed(run, reason):
        """Check that what was built is green, and that all else failed and says why."""
        assert judge_failed(run, reason)

    def check_never_ran(run, reason):
        """Check that everything failed, and says why."""
        assert not judge_failed(run, reason)

    start.check_failed = check_failed
    start.check_never_ran = check_never_ran
    start.check = check
    start.row = row
    start.warehouse = warehouse
    start.models = MODELS
    return start


def fault_of(item):
    """Return the name of a test and of its case in words."""
    cases = [str(value) for name, value in item.callspec.params.items() if name != "producer"]
    return ", ".join([item.originalname.removeprefix("test_").replace("_", " "), *cases])


def delays(run, tasks, results):
    """Return the seconds between the end of a node and that of its task."""
    from datetime import datetime  # noqa: PLC0415

    for name in MODELS:
        node, task = results.get(f"model.steady.{name}"), tasks.get(f"shop.{name}")
        if node and task and task.end_date and node.get("finished_at"):
            yield (task.end_date - datetime.fromisoformat(node["finished_at"])).total_seconds()


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    terminalreporter.section("faults")
    head = f"{'fault':68} {'producer':11} {'times':>5} {'equal':>5} {'lost':>5} {'doubled':>7} {'longest delay':>13}"
    terminalreporter.write_line(head)
    for row in ROWS.values():
        longest = f"{max(row.delays):.1f} s" if row.delays else "-"
        terminalreporter.write_line(
            f"{row.fault:68} {row.producer:11} {row.rounds:5} {row.equal:5} {row.lost:5} {row.doubled:7} {longest:>13}"
        )
