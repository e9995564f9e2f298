"""That a light triggerer makes the triggers of sensors without their DAG, and all others as Airflow does."""

import json
import logging
import subprocess
import sys
import uuid
from types import SimpleNamespace

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor
from pydantic import BaseModel

from dbt_watch.airflow import light_triggerer as module
from dbt_watch.airflow.compat import KNOWS_THE_TRIGGERER
from dbt_watch.airflow.light_triggerer import (
    SENSOR_TRIGGER,
    find_obstacle,
    is_light_triggerer_wanted,
    lighten,
    lighten_if_wanted,
)
from dbt_watch.sensors.operator import DbtNodeSensor
from dbt_watch.sensors.trigger import TRIGGER_CLASS

SWITCH = "AIRFLOW__DBT_WATCH__LIGHT_TRIGGERER"
OTHER = "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
of_this_airflow = pytest.mark.skipif(not KNOWS_THE_TRIGGERER, reason="Airflow's triggerer is another one")


class DagRunData(BaseModel):
    run_id: str


def task_instance():
    """All that Airflow asks of a task instance that waits in the triggerer."""
    run = SimpleNamespace(dag_run_data=DagRunData(run_id="run"))
    return SimpleNamespace(
        id=uuid.uuid4(),
        dag_version_id=uuid.uuid4(),
        dag_id="shop",
        task_id="build.orders",
        run_id="run",
        try_number=1,
        map_index=-1,
        pool_slots=0,
        queue="default",
        priority_weight=1,
        executor_config=None,
        parent_context_carrier=None,
        context_carrier=None,
        trigger_timeout=None,
        get_dagrun=lambda session: run,
    )


def trigger(classpath, **changed):
    values = {"id": 7, "assets": [], "encrypted_kwargs": "?", "task_instance": task_instance()}
    return SimpleNamespace(classpath=classpath, **{**values, **changed})


class Bag:
    """Holds one DAG, and counts how often it is read."""

    def __init__(self):
        self.reads = 0
        task = SimpleNamespace(task_id="build.orders", start_from_trigger=True)
        self.model = SimpleNamespace(data={"dag": 1}, dag=SimpleNamespace(get_task=lambda _: task))

    def get_serialized_dag_model(self, **_asked):
        self.reads += 1
        return self.model

    def get_serialized_dag_model_for_run(self, _run, **_asked):
        return self.get_serialized_dag_model()


@pytest.fixture
def supervisor():
    """A supervisor with Airflow's own method, which other tests do not share."""

    class Supervisor:
        job = SimpleNamespace(id=1)
        logger_cache = {}  # noqa: RUF012 - of one test
        _create_workload = TriggerRunnerSupervisor._create_workload

    return Supervisor


def workload_of(supervisor, one):
    bag = Bag()
    made = supervisor()._create_workload(
        trigger=one, dag_bag=bag, render_log_fname=lambda ti: ti.task_id, session=None
    )
    return made, bag.reads


@of_this_airflow
def test_a_sensor_gets_no_dag_and_is_the_same_else(supervisor):
    one = trigger(SENSOR_TRIGGER)
    before, reads_before = workload_of(supervisor, one)
    lighten(supervisor)
    after, reads_after = workload_of(supervisor, one)
    assert (reads_before, reads_after) == (1, 0)
    assert before.dag_data == {"dag": 1}
    assert after == before.model_copy(update={"dag_data": None, "dag_run_data": None})


@of_this_airflow
@pytest.mark.parametrize("one", [trigger(OTHER), trigger(OTHER, task_instance=None)])
def test_triggers_of_others_are_as_airflow_makes_them(supervisor, one):
    before = workload_of(supervisor, one)
    lighten(supervisor)
    assert workload_of(supervisor, one) == before


@of_this_airflow
def test_a_supervisor_is_changed_once(supervisor):
    lighten(supervisor)
    method = supervisor._create_workload
    lighten(supervisor)
    assert supervisor._create_workload is method


@of_this_airflow
def test_this_airflow_is_one_of_those_that_are_known():
    assert find_obstacle(TriggerRunnerSupervisor) == ""


class OtherArguments:
    def _create_workload(self, trigger, session): ...


class OtherDags:
    def _create_workload(self, trigger, dag_bag, render_log_fname, session):
        return dag_bag.get_dag(trigger.version, session)


@pytest.mark.parametrize(
    ("supervisor", "obstacle"),
    [
        (object, "this Airflow has no TriggerRunnerSupervisor._create_workload"),
        (OtherArguments, "has different parameters"),
        (OtherDags, "finds DAGs in a different way"),
    ],
)
def test_a_triggerer_that_works_in_another_way_is_left_alone(monkeypatch, caplog, supervisor, obstacle):
    monkeypatch.setattr(module, "KNOWS_THE_TRIGGERER", True)
    monkeypatch.setenv(SWITCH, "True")
    monkeypatch.setitem(
        sys.modules, module._RUNNER_MODULE, SimpleNamespace(TriggerRunnerSupervisor=supervisor)
    )
    before = vars(supervisor).get("_create_workload")
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        lighten_if_wanted()
    (warning,) = caplog.messages
    assert warning.startswith("[dbt_watch] light_triggerer has no effect: ")
    assert obstacle in warning
    assert vars(supervisor).get("_create_workload") is before


def test_a_version_that_has_not_been_tried_is_left_alone(monkeypatch, supervisor):
    monkeypatch.setattr(module, "KNOWS_THE_TRIGGERER", False)
    monkeypatch.setenv(SWITCH, "True")
    assert find_obstacle(supervisor) == "it has not been tested with this version of Airflow"
    assert not is_light_triggerer_wanted()


_PROCESS = """
import json, sys
if sys.argv[1]:
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor
from airflow import plugins_manager
loaded = [plugin.name for plugin in plugins_manager._get_plugins()[0]]
runner = sys.modules.get("airflow.jobs.triggerer_job_runner")
method = getattr(runner, "TriggerRunnerSupervisor", None)
print(json.dumps(["dbt_watch" in loaded, hasattr(getattr(method, "_create_workload", None), "__wrapped__")]))
"""


@of_this_airflow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_on", "is_triggerer", "changed"),
    [("True", "yes", True), ("False", "yes", False), ("True", "", False)],
)
def test_airflow_loads_the_plugin_which_changes_only_a_triggerer_that_is_to_be(
    monkeypatch, tmp_path, is_on, is_triggerer, changed
):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv(SWITCH, is_on)
    output = subprocess.run(
        [sys.executable, "-c", _PROCESS, is_triggerer], capture_output=True, check=True, text=True
    ).stdout
    assert json.loads(output.splitlines()[-1]) == [True, changed]


def test_it_is_known_while_parsing_whether_sensors_are_cheap(monkeypatch):
    assert not is_light_triggerer_wanted()
    monkeypatch.setenv(SWITCH, "True")
    assert is_light_triggerer_wanted() is KNOWS_THE_TRIGGERER


def test_what_the_light_triggerer_relies_on_holds_for_sensors():
    assert SENSOR_TRIGGER == TRIGGER_CLASS
    assert not DbtNodeSensor.template_fields
