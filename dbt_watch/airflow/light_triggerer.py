"""
Start sensors in the triggerer without their DAG, where a deployment asks for it: `[dbt_watch] light_triggerer = True`.

For each task that the scheduler hands to the triggerer, Airflow 3.3 loads and deserializes the whole DAG twice and sends it
from one process to another, so that the trigger's template fields can be rendered. The cost of a sensor grows with the
number of tasks that way. A sensor has no template fields; so its trigger is made as Airflow makes those of tasks that a worker
has deferred, which get no DAG. Triggers of other packages are made as before. What is replaced is one method of the
supervisor of the triggers (`TriggerRunnerSupervisor`), and only in a process of the triggerer.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from airflow.configuration import conf

from dbt_watch.airflow.compat import KNOWS_THE_TRIGGERER

if TYPE_CHECKING:
    from collections.abc import Callable

    CreateWorkload = Callable[..., Any]

log = logging.getLogger(__name__)

SECTION: Final = "dbt_watch"
OPTION: Final = "light_triggerer"
SENSOR_TRIGGER: Final = "dbt_watch.sensors.trigger.NodeTrigger"

_RUNNER_MODULE: Final = "airflow.jobs.triggerer_job_runner"
_METHOD: Final = "_create_workload"
_PARAMETERS: Final = ("self", "trigger", "dag_bag", "render_log_fname", "session")


class NoDags:
    """A `DBDagBag` in which no DAG is found: Airflow goes on without one, as when it was deleted meanwhile."""

    def get_serialized_dag_model_for_run(self, dag_run: object, *, session: object) -> None:
        """Find nothing; Airflow 3.3.2 asks this first."""

    def get_serialized_dag_model(self, version_id: object, session: object) -> None:
        """Find nothing; Airflow 3.3.0 and 3.3.1 ask only this."""


def is_light_triggerer_wanted() -> bool:
    """
    Return whether the configuration asks for it, and this version of Airflow is known to allow it.

    While a DAG file is parsed this tells what the triggerer does, if it has the same configuration.

    :raises airflow.exceptions.AirflowConfigException: when the value is not a boolean
    """
    return KNOWS_THE_TRIGGERER and bool(conf.getboolean(SECTION, OPTION, fallback=False))


def lighten_if_wanted() -> None:
    """Make the triggerer of this process light, if it is one and the configuration says so; warn when it cannot be."""
    # Other components load plugins as well. The triggerer has imported its runner by then.
    runner = sys.modules.get(_RUNNER_MODULE)
    if runner is None or not conf.getboolean(SECTION, OPTION, fallback=False):
        return
    obstacle = find_obstacle(runner.TriggerRunnerSupervisor)
    if obstacle:
        log.warning(
            "[%s] %s has no effect: %s. Each sensor costs the triggerer more the larger its DAG is.",
            SECTION,
            OPTION,
            obstacle,
        )
        return
    lighten(runner.TriggerRunnerSupervisor)


def find_obstacle(supervisor: type[Any]) -> str:
    """Return why the triggerer is not to be touched; nothing when its method is one of those that are known."""
    if not KNOWS_THE_TRIGGERER:
        return "it has not been tested with this version of Airflow"
    method = getattr(supervisor, _METHOD, None)
    if not inspect.isfunction(method):
        return f"this Airflow has no TriggerRunnerSupervisor.{_METHOD}"
    if tuple(inspect.signature(method).parameters) != _PARAMETERS:
        return f"TriggerRunnerSupervisor.{_METHOD} has different parameters in this Airflow"
    if not _dag_bag_methods_of(method) <= set(vars(NoDags)):
        return f"TriggerRunnerSupervisor.{_METHOD} finds DAGs in a different way in this Airflow"
    return ""


def lighten(supervisor: type[Any]) -> None:
    """Let a supervisor of triggers make those of sensors without a DAG; once, however often it is called."""
    original: CreateWorkload = getattr(supervisor, _METHOD)
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def create_workload(self: object, trigger: Any, dag_bag: object, *rest: Any, **named: Any) -> Any:
        is_ours = trigger.classpath == SENSOR_TRIGGER and trigger.task_instance is not None
        return original(self, trigger, NoDags() if is_ours else dag_bag, *rest, **named)

    setattr(supervisor, _METHOD, create_workload)
    log.info("Sensors of dbt_watch start without their DAG: [%s] %s is on.", SECTION, OPTION)


def _dag_bag_methods_of(method: Any) -> set[str]:
    from airflow.models.dagbag import DBDagBag  # noqa: PLC0415 # no process but the triggerer needs it here

    return set(method.__code__.co_names) & {name for name in vars(DBDagBag) if not name.startswith("_")}
