"""
What the fault tests share: one cluster, the DAGs that are struck again and again, and a table.

Without `--faults` only the quick ones run; `nox -s faults` runs all, and prints what was lost, doubled or late.
"""

import contextlib
import itertools
import json
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import pytest
from harness import Run, dags_in, until
from kubernetes import client, config
from psycopg2 import sql

from dbt_watch.local.localkube import Image, LocalKube, Mount

HERE = Path(__file__).parent
IMAGE = "steady:tests"
THREADS = 4
MODELS = {f"{letter}{number}" for letter in "abc" for number in range(1, 5)} | {"last"}
PRODUCER = "shop.dbt_build"


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))


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
def cluster(project, warm_dbt, postgres):
    # A socket works only where the directory itself is mounted, not a copy of it.
    mounts = {**warm_dbt, "/usr/app/steady": project, postgres: Mount(Path(postgres), shared=True)}
    image = Image(venv=sys.prefix, mounts=mounts, workdir="/usr/app/steady")
    with LocalKube(images={IMAGE: image}) as kube:
        yield kube


@pytest.fixture(scope="session")
def kubernetes(cluster):
    """The official client."""
    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


@pytest.fixture(scope="session")
def dags(airflow, project, cluster, postgres):
    """The DAGs that are struck, in the folder of the Airflow."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(cluster.kubeconfig)}}
    env = {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
        "STEADY_MANIFEST": str(project / "target/manifest.json"),
        "STEADY_IMAGE": IMAGE,
        "STEADY_ENV": json.dumps(dbt_env(postgres)),
    }
    # Its slots are fewer than the sensors of a project, and tasks that wait are counted too.
    airflow.client.create_pool("four_slots", 4, include_deferred=True)
    with dags_in(airflow, HERE / "dags/steady.py", env=env):
        yield


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


@pytest.fixture(scope="session")
def gate(postgres):
    """For as long as a block lasts, hold dbt back before the last third of the models of a schema: they share a lock."""

    @contextlib.contextmanager
    def shut(schema):
        with contextlib.closing(
            psycopg2.connect(host=postgres, user="postgres", dbname="warehouse")
        ) as connection:
            connection.cursor().execute("select pg_advisory_lock(hashtext(%s))", [schema])
            yield

    return shut


class Struck(Run):
    """
    A run that something happens to.

    :ivar schema: where it builds
    :ivar warehouse: how often each node was built, by schema
    :ivar gate: holds dbt back, by schema
    """

    @classmethod
    def begin(cls, airflow, warehouse, gate, dag_id, **conf):
        schema = f"run_{next(_number)}"
        run = cls.start(airflow, dag_id, {"schema": schema, **conf})
        run.schema, run.warehouse, run.gate = schema, warehouse, gate
        return run

    def midway(self):
        """Wait until dbt has done about a third."""
        return self.when("shop.a1", "success")

    @contextlib.contextmanager
    def held_midway(self):
        """Wait until dbt has done about a third, and see that it does not end within a block; gives the name of its pod."""
        with self.gate(self.schema):
            yield self.midway().pod()

    def when_all_is_built(self):
        """Wait until dbt has built all models, whoever may have noticed; return the run."""
        until(lambda: set(self.warehouse(self.schema)) >= MODELS, "all models are built")
        return self

    def pod(self):
        """Return the name of the pod that dbt runs in."""
        return self.xcom(PRODUCER, "pod_name")

    def reported(self, name):
        """Tell whether dbt said that a model was built before the last attempt; a word that a kill may cut off."""
        attempts = range(1, self.tasks[PRODUCER].try_number)
        return any(f" {name} OK" in self.log(PRODUCER, attempt) for attempt in attempts)


# Where a producer follows dbt, and what the DAGs that have it so have behind their names.
PRODUCERS = {"on a worker": "", "deferred": "_deferred"}


@pytest.fixture(params=PRODUCERS)
def producer(request):
    """How the producer follows dbt. A fault that only one kind knows says so by a `parametrize` of its own."""
    return request.param


@pytest.fixture
def strike(airflow, dags, warehouse, gate, producer, request):
    """Start a run; at the end of the test, compare it with an undisturbed one."""
    row = ROWS.setdefault(request.node.name, Row(fault_of(request.node), producer))

    def start(dag_id="steady", **conf):
        return Struck.begin(airflow, warehouse, gate, dag_id + PRODUCERS[producer], **conf)

    def check(run):
        row.rounds += 1
        state = run.end()
        assert state == "success", run.log(PRODUCER, run.tasks[PRODUCER].try_number)[-5000:]
        tasks, built = run.tasks, warehouse(run.schema)
        results = {node["unique_id"]: node for node in run.results()}
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
        assert reason in run.log(PRODUCER, until=reason)
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
