"""Runs of DAGs on a real Airflow, as a test drives them and looks at them; and how it waits for something."""

import contextlib
import copy
import subprocess
import sys
import time
from pathlib import Path

from dbt_watch.local.airflow.deployment import LocalAirflow
from dbt_watch.local.airflow.rest import RestError
from dbt_watch.local.airflow.settings import Login, airflow_environment

# Where most pods of the tests have it. dbt's cache of the project, which saves them seconds, holds for the same path only.
DATABASE = "/tmp/jaffle_shop.duckdb"  # noqa: S108
# In seconds, on a machine that may be slow and has many runs at once.
RUN_TIMEOUT = 600
PATIENCE = 240
PAUSE = 0.5
# So that the death of a part or of a worker is noticed within seconds instead of minutes.
NOTICED_SOON = {
    # A task whose worker died is given up after this many seconds.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    # A triggerer that was not heard of for twice this long is taken for dead.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "3",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "9",
}


# The parts of Airflow that fork a process for each task, or for each load of a DAG file, as often as triggers end tasks.
FORKING = ("scheduler", "dag-processor")
# What each of these processes would import anew: that takes 0.3 s of CPU for a sensor, and 0.6 s for a producer or a whole file.
PRELOADED = """
import airflow.dag_processing.processor, airflow.sdk.execution_time.task_runner
import airflow.providers.standard.operators.trigger_dagrun, airflow.providers.standard.sensors.external_task
from dbt_watch.executor.ahead import import_for_tasks
import_for_tasks()
"""


# By this a file learns which of its DAGs a worker wants. Airflow loads a whole file for each task that a trigger ends, and so makes all
# of its DAGs as often.
THE_DAG_ALONE = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"


class PreloadedAirflow(LocalAirflow):
    """
    An Airflow that spares a small machine minutes: what its processes are forked from has imported what they need.

    That the same can be imported where nothing else was, the demo, `dag.test()` and `authoring/test_on_a_worker` show.
    """

    def _imported_ahead(self, name):
        return PRELOADED if name.startswith(FORKING) else ""


def until(condition, what, patience=PATIENCE, pause=PAUSE):
    """Poll until something is true, and return it. `what` is said where it never is; it may be a function."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(pause)
    return found


@contextlib.contextmanager
def dags_in(airflow, *files, env, modules=None, alone=None):
    """
    For as long as the block lasts, have DAG files in the folder of an Airflow, with an environment of their own.

    :param modules: a directory of what they import
    :param alone: the DAGs of a file that each get a copy of it, by their name; it has to ask `get_parsing_context()` which are wanted
    """
    folder = Path(airflow.env["AIRFLOW__CORE__DAGS_FOLDER"])
    placed = {folder / path.name: (path, {}) for path in files}
    for path, dag_ids in (alone or {}).items():
        for dag_id in dag_ids:
            placed[folder / f"{dag_id}.py"] = path, {THE_DAG_ALONE: dag_id}
    for place, (path, more) in placed.items():
        # Each process that loads the file learns of its environment: of the cluster of these tests, for one.
        head = f"import os, sys\nos.environ.update({env | more!r})\nsys.path += {[str(modules)] if modules else []!r}\n"
        # A file that is loaded while it is written is not loaded again for an hour.
        draft = place.with_suffix(".draft")
        draft.write_text(head + path.read_text())
        draft.replace(place)
    yield folder
    for place in placed:
        place.unlink()


def started(airflow, dag_id, conf=None):
    """Start a run of a DAG whose file may be new, and return its run_id."""
    airflow.wait_for_dag(dag_id, timeout=PATIENCE)
    return airflow.client.trigger_dag(dag_id, conf)


class Run:
    """
    A run of a DAG. While it goes on, each look asks Airflow; after `end`, all show how it has ended.

    :ivar state: how it has ended
    :ivar map_index: of the only element of a mapped project that is looked at; None for all
    """

    def __init__(self, airflow, dag_id, run_id):
        self.airflow, self.dag_id, self.run_id = airflow, dag_id, run_id
        self.state = self.map_index = self._ended = None

    @classmethod
    def start(cls, airflow, dag_id, conf=None):
        return cls(airflow, dag_id, started(airflow, dag_id, conf))

    def element(self, map_index):
        """Return the same run, seen from one element of a mapped project."""
        element = copy.copy(self)
        element.map_index = map_index
        return element

    def end(self):
        """Wait for the end, and return the state of the run."""
        self.state = self.airflow.wait_for_run(self.dag_id, self.run_id, RUN_TIMEOUT)
        self._ended = None
        self._ended = self.instances
        return self.state

    def ended(self):
        """Wait for the end, and return this."""
        self.end()
        return self

    def clear(self, *task_ids, **which):
        """Clear tasks as a person does, all by default."""
        self._ended = None
        self.airflow.client.clear_tasks(self.dag_id, self.run_id, list(task_ids) or None, **which)

    def cleared(self, *task_ids, **which):
        """Clear tasks, and return the run as it ends then; this one goes on to show how it ended before."""
        again = copy.copy(self)
        again.clear(*task_ids, **which)
        return again.ended()

    def mark(self, task_id, state):
        """Mark a task as a person does."""
        self._ended = None
        self.airflow.client.set_task_state(self.dag_id, self.run_id, task_id, state)

    @property
    def instances(self):
        """The instances of all tasks, by their ids and map indexes."""
        if self._ended is not None:
            return self._ended
        found = self.airflow.client.task_instances(self.dag_id, self.run_id)
        return {(item.task_id, item.map_index): item for item in found}

    @property
    def tasks(self):
        """The tasks by their ids; of a mapped one its last instance, or that of the element."""
        return {
            task_id: item
            for (task_id, map_index), item in self.instances.items()
            if self.map_index in {None, map_index}
        }

    @property
    def states(self):
        return {task_id: item.state for task_id, item in self.tasks.items()}

    def with_state(self, state):
        """Return the ids of the tasks in a state."""
        return {task_id for task_id, found in self.states.items() if found == state}

    def sensors(self):
        return {task_id: item for task_id, item in self.tasks.items() if item.operator == "DbtNodeSensor"}

    def when(self, task_id, *states, patience=PATIENCE):
        """Wait until a task is in one of these states, and return this."""
        until(
            lambda: self.states.get(task_id) in states,
            lambda: f"{task_id} is {self.states.get(task_id)}, not one of {states}",
            patience,
        )
        return self

    def log(self, task_id, attempt=1, *, until=None, patience=PATIENCE):
        """
        Return a task's log; where words are given, as soon as it holds them, and it has to.

        A log is written beside the task, whose state may be known before the last lines are there.
        """
        deadline = time.monotonic() + patience
        while until is not None and not self.has_logged(task_id, until, attempt):
            assert time.monotonic() < deadline, f"{until!r} is not in the log of {task_id}"
            time.sleep(PAUSE)
        index = -1 if self.map_index is None else self.map_index
        return self.airflow.client.task_log(self.dag_id, self.run_id, task_id, attempt, index)

    def has_logged(self, task_id, words, attempt=1):
        """Tell whether a task's log holds some words by now."""
        try:
            return words in self.log(task_id, attempt)
        except RestError:
            return False  # there is no such attempt yet

    def wait_for_log(self, task_id, words, attempt=1):
        """Wait until a task that still runs has logged some words, and return its log."""
        return self.log(task_id, attempt, until=words)

    def xcom(self, task_id, key="return_value"):
        return self.airflow.client.xcom(self.dag_id, self.run_id, task_id, key)

    def results(self):
        """Return what the tasks of nodes have reported."""
        values = [self.xcom(task_id) for task_id in self.tasks]
        found = [value for value in values if isinstance(value, dict) and {"nodes", "unique_id"} & set(value)]
        return [node for value in found for node in value.get("nodes", [value])]


# Runs DAGs one after the other, and says what has become of each. Airflow 3.1 makes the API that a task talks to anew each time one
# is started, which takes a second of CPU; later versions keep it, as is done here.
_SCRIPT = """
import functools, gc, importlib, sys
gc.set_threshold(10_000, 50, 1_000)
from airflow.sdk.execution_time import supervisor
supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
sys.path.insert(0, "dags")
module = importlib.import_module(sys.argv[1])
for dag_id in sys.argv[2:]:
    dag = getattr(module, "DAGS", vars(module))[dag_id]
    print("BEGIN", dag_id, flush=True)
    run = (dag() if callable(dag) else dag).test()
    print("END", dag_id, run.state, flush=True)
    for ti in run.get_task_instances():
        print("TASK", dag_id, ti.task_id, ti.state, flush=True)
"""


class Desk:
    """
    An Airflow of which no part runs: DAGs run in `dag.test()`, as a person at a desk runs them.

    :param home: its directory, with a folder `dags`
    :param env: what the DAG files and their tasks read from their environment
    """

    def __init__(self, home, env=()):
        self._home = home
        self._env = {**airflow_environment(home, home / "dags", 0, Login()), **dict(env)}

    def run(self, module, *dag_ids, **env):
        """Run DAGs of a file, each found by its id there or made by a function of that name; return what became of each."""
        output = self.python("-c", _SCRIPT, module, *dag_ids, **env)
        return {dag_id: DeskRun(dag_id, output) for dag_id in dag_ids}

    def python(self, *arguments, **env):
        """Run Python in this Airflow, and return what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**self._env, **env},
            cwd=self._home,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout


class DeskRun:
    """
    What has become of one DAG at a desk.

    :ivar state: of the run
    :ivar states: of the tasks
    :ivar log: all that was printed meanwhile
    """

    def __init__(self, dag_id, output):
        lines = [line.split() for line in output.splitlines()]
        self.states = {line[2]: line[3] for line in lines if line[:2] == ["TASK", dag_id]}
        (self.state,) = [line[2] for line in lines if line[:2] == ["END", dag_id]]
        self.log = output.split(f"BEGIN {dag_id}\n")[1].split(f"END {dag_id} ")[0]
