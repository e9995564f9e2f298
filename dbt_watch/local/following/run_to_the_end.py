"""Starts a run of a DAG and follows it to its end; then Airflow may be left to the user. Called by the commands of `demo` and `run`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.local.airflow.processes import Interrupted
from dbt_watch.local.airflow.waiting import wait_for
from dbt_watch.local.following.observation import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from rich.console import Console

    from dbt_watch.local.airflow.deployment import LocalAirflow
    from dbt_watch.local.following.observation import Observation, Task
    from dbt_watch.local.following.progress import View

# A look costs the api-server about 0.1 s, and it shares the machine with the run.
_POLL_S: Final = 0.8
_GROUP: Final = re.compile(r"^::group::.*?^::endgroup::$", re.MULTILINE | re.DOTALL)
_LOG_LINES: Final = 20


class FollowedRun:
    """
    One run of a DAG.

    :param airflow: where it runs
    :param dag_id: the DAG, which is there already
    :param conf: what the run is given
    :param builders: see `Observer`
    """

    def __init__(
        self, airflow: LocalAirflow, dag_id: str, conf: Mapping[str, Any], builders: Collection[str] = ()
    ) -> None:
        self.airflow = airflow
        self.dag_id = dag_id
        self._builders = builders
        self._started = time.monotonic()
        self.run_id = airflow.client.trigger_dag(dag_id, conf)
        self.wall_s = 0.0

    def follow(
        self, view: View, *, timeout: float, check: Callable[[], object] = lambda: None
    ) -> Observation:
        """
        Show the run until it has ended, and return the last look at it.

        :param view: shows it
        :param timeout: seconds
        :param check: called with each look; raises what makes it useless to wait on
        :raises CannotRun: when a component of Airflow ends, or after the timeout, naming what is unfinished
        """
        view.step("the run has started")
        observer = Observer(self.airflow.client, self.dag_id, self.run_id, self._builders)

        def last_look() -> Observation | None:
            self.airflow.check()
            observation = observer.look()
            view.show(observation)
            if observation.is_final:
                return observation
            check()
            return None

        observation = wait_for(last_look, timeout, lambda: _unfinished(observer.look()), pause=_POLL_S)
        self.wall_s = time.monotonic() - self._started
        return observation

    def end_of_log(self, task: Task) -> str:
        """Return the last lines that a task has logged itself."""
        instance = task.instance
        log = self.airflow.client.task_log(
            self.dag_id, self.run_id, instance.task_id, instance.try_number, instance.map_index
        )
        # What Airflow itself has to say stands in groups, which its web interface folds.
        lines = [line for line in _GROUP.sub("", log).splitlines() if line.strip()]
        return "\n".join(lines[-_LOG_LINES:])


def excerpt(task_id: str, log: str) -> str:
    """Return the end of the log of a task that failed, as a paragraph that names it."""
    indented = "\n  ".join(log.splitlines())
    return f"\n{task_id} failed; the end of its log:\n  {indented}"


def failed_by_itself(task: Task) -> bool:
    """Return whether a task failed, and not only because something before it did."""
    was_skipped = bool(task.nodes) and all(node.status == "skipped" for node in task.nodes)
    return task.instance.state == "failed" and not was_skipped


def keep(airflow: LocalAirflow, progress: Console) -> None:
    """Leave Airflow to the user until an interrupt, which is the way to end it."""
    progress.print(f"\n{address_of(airflow)}\nPress Ctrl-C to stop it.", highlight=False)
    try:
        while True:
            airflow.check()
            time.sleep(1)
    except Interrupted:
        progress.print("ending Airflow")


def address_of(airflow: LocalAirflow) -> str:
    """Return where Airflow's web interface is, and how to log in."""
    return f"Airflow: {airflow.url}   user {airflow.login.username}   password {airflow.login.password}"


def _unfinished(observation: Observation) -> str:
    states = {task.instance.task_id: task.instance.state for task in observation.tasks if not task.is_final}
    told = ", ".join(f"{task_id} is {state or 'not started'}" for task_id, state in states.items())
    return f"the run has not ended ({told})"
