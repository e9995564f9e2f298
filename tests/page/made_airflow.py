"""An Airflow that is a dictionary, and projects whose tasks and XComs come into being in it as a test wants."""

import json
from datetime import datetime, timedelta, timezone

from dbt_watch.airflow.api_server import DagRunRow, TaskRow, XComRow, XComStamp
from dbt_watch.core.journal.writer import JournalWriter, Publication
from dbt_watch.core.manifest.graph import Facts, Graph, Node
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import (
    PHASE_KEY,
    PhaseNote,
    encode_phase,
    outline_of,
    pack_columns,
    pack_outline,
    pack_summary,
    pack_tries,
    summary_of,
)

START = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)
DAG, RUN, GROUP = "shop", "manual__2", "build"
PRODUCER = f"{GROUP}.dbt_build"


def at(seconds):
    return START + timedelta(seconds=seconds)


def model(name):
    return f"model.shop.{name}"


class AirflowOfATest:
    """Answers as `RunDatabase` does, and counts what it is asked."""

    def __init__(self):
        self.dag_runs = {RUN: DagRunRow(RUN, "running", START, None)}
        self.task_rows = {}
        self.values = {}
        self.asked = 0

    def put(self, task_id, key, value, *, run_id=RUN, map_index=-1):
        self.values[run_id, task_id, map_index, key] = value

    def set_task(self, task_id, state, operator="DbtNodeSensor", *, run_id=RUN, map_index=-1, try_number=1):
        row = TaskRow(task_id, map_index, operator, state, try_number, START, None)
        self.task_rows[run_id, task_id, map_index] = row

    # As `RunDatabase` has it.

    def run(self, dag_id, run_id):
        self.asked += 1
        if dag_id != DAG:
            return None
        return self.dag_runs.get(run_id) if run_id else next(reversed(self.dag_runs.values()), None)

    def runs(self, dag_id, *, limit, before=None):
        names = sorted(self.dag_runs, reverse=True)
        if before is not None:
            names = [name for name in names if name < before]
        return [self.dag_runs[name] for name in names[:limit]]

    def tasks_of_type(self, dag_id, run_id, *, prefix, but):
        rows = [row for (run, *_), row in self.task_rows.items() if run == run_id]
        return [row for row in rows if row.operator.startswith(prefix) and row.operator != but]

    def tasks_below(self, dag_id, run_id, group, map_index, *, since=None):
        self.asked += 1
        return [
            row
            for (run, task_id, index), row in self.task_rows.items()
            if run == run_id and index == map_index and task_id.startswith(f"{group}.")
        ]

    def tasks_with(self, dag_id, run_id, key):
        return [(task, index) for run, task, index, name in self.values if (run, name) == (run_id, key)]

    def xcoms(self, dag_id, run_ids, wanted, map_index):
        self.asked += 1
        return [
            XComRow(run, task, index, key, self._given_back(value))
            for (run, task, index, key), value in self.values.items()
            if run in run_ids and (task, key) in wanted and index == map_index
        ]

    def xcoms_of(self, dag_id, run_id, key):
        return [
            XComRow(run, task, index, name, self._given_back(value))
            for (run, task, index, name), value in self.values.items()
            if (run, name) == (run_id, key)
        ]

    def stamps(self, dag_id, run_ids, key, group, map_index):
        return [
            XComStamp(run, task, name, START)
            for run, task, index, name in self.values
            if run in run_ids and index == map_index and name.startswith(key) and task.startswith(f"{group}.")
        ]

    @staticmethod
    def _given_back(value):
        return json.loads(value) if isinstance(value, str) and value[:1] in '{["' else value


class MadeProject:
    """
    A project in one run, whose tasks and XComs a test lets come into being as they do in Airflow.

    :param parents: what each node depends on, by names
    """

    def __init__(self, airflow, parents, *, group=GROUP, map_index=-1, run_id=RUN):
        self.airflow, self.group, self.map_index, self.run_id = airflow, group, map_index, run_id
        self.producer = f"{group}.dbt_build"
        self.parents = {model(name): tuple(map(model, before)) for name, before in parents.items()}
        nodes = [
            Node(
                key,
                key.split(".")[2],
                "model",
                "shop",
                path=f"models/{key.split('.')[2]}.sql",
                depends_on=before,
            )
            for key, before in self.parents.items()
        ]
        self.graph = Graph(Facts("1.11.0", "shop"), nodes)
        self.state("queued")
        for key in self.parents:
            self.airflow.set_task(self.task(key), "deferred", **self.place)
        self.attempt = 0

    @property
    def place(self):
        return {"run_id": self.run_id, "map_index": self.map_index}

    def task(self, key):
        return f"{self.group}.{key.split('.')[2]}"

    def state(self, state, try_number=1):
        self.airflow.set_task(
            self.producer, state, "DbtKubernetesPodOperator", try_number=try_number, **self.place
        )

    def put(self, key, value):
        self.airflow.put(self.producer, key, value, **self.place)

    def begin(self, *, columns=None, tries=()):
        """Begin an attempt, as a producer does."""
        self.attempt += 1
        for place in [place for place in self.airflow.values if place[:2] == (self.run_id, self.producer)]:
            if place[2] == self.map_index:
                del self.airflow.values[place]
        self.state("running", self.attempt)
        self.writer = JournalWriter(attempt=self.attempt)
        self.publication = Publication(self.writer, will_retry=False, began=float(self.attempt), interval=0)
        self.flush()
        watched = {self.task(key): (key,) for key in self.parents}
        notes = [
            *(pack_tries(tries, self.attempt) if tries else []),
            *(pack_columns(columns, self.attempt) if columns else []),
        ]
        for key, value in notes:
            self.put(key, value)
        for key, value in pack_outline(
            outline_of(self.graph, self.parents, watched, self.group), self.attempt
        ):
            self.put(key, value)

    def phase(self, phase, text=""):
        self.put(PHASE_KEY, encode_phase(PhaseNote(phase, text, 1.0, self.attempt, self.group)))

    def flush(self):
        for write in self.publication.rest():
            self.put(write.key, write.value)

    def tell(self, *results):
        self.writer.add([self.result(*result) if isinstance(result, tuple) else result for result in results])
        self.flush()

    def result(self, name, status, begin=0.0, end=None, **more):
        return NodeResult(
            unique_id=model(name),
            name=name,
            resource_type="model",
            status=status,
            started_at=at(begin),
            finished_at=None if end is None else at(end),
            execution_time=None if end is None else end - begin,
            attempt=self.attempt,
            invocation_id="i-1",
            **more,
        )

    def end(self, exit_code=0, *results, threads=None):
        self.writer.add(results)
        self.writer.close(exit_code, threads=threads)
        self.flush()
        self.state("success" if exit_code == 0 else "failed", self.attempt)

    def leave_summary(self, results, exit_code=0):
        """Leave what a run leaves for later ones."""
        for key, value in pack_summary(summary_of(results, exit_code, 1), 1):
            self.put(key, value)
