"""
The task of one node, or of the tests of one node.

`rendering` makes one for each planned task. It imports neither dbt nor Kubernetes, reads no manifest and holds no
more than the names of its nodes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from airflow.sdk import BaseOperator, timezone
from airflow.triggers.base import StartTriggerArgs

from dbt_watch.compat import (
    STARTS_FROM_TRIGGER,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.values import results_in
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from airflow.sdk import Context
    from airflow.sdk.definitions._internal.mixins import DependencyMixin
    from airflow.sdk.definitions.edges import EdgeModifier

    from dbt_watch.core.journal import Closed
    from dbt_watch.core.results import NodeResult

_TRIGGER_CLASS = "dbt_watch.sensors.trigger.NodeTrigger"
# How far a look goes back, so that its cost does not grow with the run: 6 s of it, when something happens all the time.
MAX_PAGES = 20


class LoneBuild(Protocol):
    """How the nodes of a sensor are built that was cleared alone. `rendering` knows."""

    def earlier(self) -> Sequence[str]:
        """Give the task ids of all sensors that have their turn before this one."""

    def parents(self) -> Sequence[str]:
        """Give the task ids of the sensors directly before this one."""

    def run(self, context: Context) -> tuple[Sequence[NodeResult], Closed]:
        """Build the nodes; tell what became of them, and how dbt ended."""

    def kill(self) -> None:
        """End the build, if there is one."""


class DbtNodeSensor(BaseOperator):
    """
    Reaches its final state the moment dbt finishes its nodes.

    :param producer_task_id: the task that runs dbt
    :param unique_ids: the nodes that this task stands for
    :param kind: what the UI calls this kind of task, such as "dbt model"
    :param from_trigger: start in the triggerer, without a worker (Airflow 3.3 and later; ignored before)
    :param looks_first: when it starts on a worker, look whether its nodes are done before it is deferred; of no use for
        those that start with the producer, unless they were cleared
    :param worker_for: the ends that need a worker, as of `NodeTrigger`
    :param lone_build: how its nodes are built when it was cleared alone
    :param on_warning_callback: called with the context when a node ended with a warning; needs a worker for "warn"
    """

    ui_color = "#ffd7c2"
    shallow_copy_attrs = ("_lone_build",)

    def __init__(
        self,
        *,
        producer_task_id: str,
        unique_ids: Sequence[str],
        kind: str = "dbt node",
        from_trigger: bool = True,
        looks_first: bool = False,
        worker_for: Collection[str] = (),
        lone_build: LoneBuild | None = None,
        on_warning_callback: Sequence[Callable[[Context], object]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.producer_task_id = producer_task_id
        self.unique_ids = tuple(unique_ids)
        self.custom_operator_name = kind
        self.looks_first = looks_first
        self.worker_for = tuple(worker_for)
        self._lone_build = lone_build
        self._on_warning = tuple(on_warning_callback)
        if from_trigger and STARTS_FROM_TRIGGER:
            self.start_from_trigger = True
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=_TRIGGER_CLASS,
                trigger_kwargs=self._trigger_arguments(),
                next_method="execute_complete",
            )

    def _trigger_arguments(self) -> dict[str, Any]:
        return {
            "producer_task_id": self.producer_task_id,
            "unique_ids": list(self.unique_ids),
            "worker_for": list(self.worker_for),
        }

    def execute(self, context: Context) -> Any:
        """End at once if the nodes are done already, else hand over to the trigger."""
        # Not for a DAG file to load, but for a worker.
        from dbt_watch.sensors.once import look_once  # noqa: PLC0415
        from dbt_watch.sensors.trigger import (  # noqa: PLC0415
            NodeTrigger,
            cleared_at,
            decision_payload,
            write_log,
            xcom_value,
        )
        from dbt_watch.supervisor import runs_in_dag_test  # noqa: PLC0415

        in_dag_test = runs_in_dag_test()
        if in_dag_test or self.looks_first or context["ti"].try_number > 1:
            update = look_once(
                context["ti"],
                self.producer_task_id,
                self.unique_ids,
                since=cleared_at(context["ti"]),
                max_pages=None if in_dag_test else MAX_PAGES,
            )
            if update.is_over:
                # The exception of a failure tells its reason, that of a skip does not on every version.
                write_log(self.log, update, with_reason=update.decision.verdict is not Verdict.FAIL)
                event = {**decision_payload(update.decision), "results": xcom_value(update.results)}
                return self.execute_complete(context, event)
        if in_dag_test:
            # Tasks run one after the other here: a sensor that waited would keep the producer from starting.
            raise AirflowRescheduleException(timezone.utcnow() + pause_in_dag_test(context))

        trigger = NodeTrigger(**self._trigger_arguments(), from_worker=True)
        return self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """
        End as decided.

        :param event: `{"verdict": "succeed" | "fail" | "skip" | "build", "reason": ..., "results": ...}`
        :returns: the node's result as a dict
        :raises AirflowFailException: when the decision is that the task has failed; it is not tried again
        :raises AirflowSkipException: when dbt had nothing to do here
        """
        verdict = Verdict(event["verdict"])
        if verdict is Verdict.BUILD:
            return self._await_turn(context)
        self._publish(context, event["results"], keep=verdict is not Verdict.SUCCEED)
        if verdict is Verdict.FAIL:
            raise AirflowFailException(event["reason"])
        if verdict is Verdict.SKIP:
            raise AirflowSkipException(event["reason"])
        return event["results"]

    def _publish(self, context: Context, value: Any, *, keep: bool) -> None:
        """
        Give Airflow's callbacks the results, as `dbt_results` of their context, and call those for warnings.

        :param value: the results as XCom has them
        :param keep: leave them in XCom here, since no value is returned
        """
        results = tuple(results_in(value))
        cast("dict[str, Any]", context)["dbt_results"] = results
        if keep:
            context["ti"].xcom_push(key="return_value", value=value)
        if any(result.is_warning for result in results):
            for callback in self._on_warning:
                self._call(callback, context)

    def _call(self, callback: Callable[[Context], object], context: Context) -> None:
        try:
            callback(context)
        except Exception:
            self.log.exception("The callback %s failed", getattr(callback, "__name__", callback))

    def _await_turn(self, context: Context) -> Any:
        """Build the nodes, at once unless there are others that dbt would build before them."""
        from dbt_watch.sensors.turn import TurnTrigger, waited_for  # noqa: PLC0415 - as in `execute`

        waiting = waited_for(context["ti"], self._alone.earlier())
        if not waiting:
            return self.build_alone(context, {"states": {}})
        self.log.info("Waiting for %d tasks that come first: %s", len(waiting), ", ".join(waiting))
        return self.defer(trigger=TurnTrigger(earlier=waiting), method_name="build_alone")

    def build_alone(self, context: Context, event: dict[str, Any]) -> Any:
        """
        Build the nodes in a pod of their own, and end as they do.

        :param event: `{"states": {task_id: state}}`, of the tasks that had to come first
        """
        from dbt_watch.sensors.hub import final_update  # noqa: PLC0415 - as in `execute`
        from dbt_watch.sensors.trigger import decision_payload, write_log, xcom_value  # noqa: PLC0415

        states = event["states"]
        failed = [task for task in self._alone.parents() if states.get(task) in {"failed", "upstream_failed"}]
        if failed:
            raise AirflowFailException(f"not built: upstream {', '.join(failed)} failed")
        results, closed = self._alone.run(context)
        update = final_update(self.unique_ids, results, closed)
        write_log(self.log, update, with_reason=update.decision.verdict is not Verdict.FAIL)
        outcome = {**decision_payload(update.decision), "results": xcom_value(update.results)}
        return self.execute_complete(context, outcome)

    @property
    def _alone(self) -> LoneBuild:
        if self._lone_build is None:
            raise AirflowFailException("cleared alone, and there is nothing known to build its nodes with")
        return self._lone_build

    def on_kill(self) -> None:
        """End the pod of a build of its own."""
        if self._lone_build is not None:
            self._lone_build.kill()

    def update_relative(
        self, other: DependencyMixin, upstream: bool = True, edge_modifier: EdgeModifier | None = None
    ) -> None:
        """Refuse a task in front of a single node: dbt decides the order, in one process, and would not wait."""
        super().update_relative(other, upstream, edge_modifier)
        if upstream:
            raise_if_held_back(self.task_id, other.leaves)


def pause_in_dag_test(context: Context) -> timedelta:
    """Return how long a sensor waits in `dag.test()` until it looks again: each time twice as long, up to a minute."""
    looks = min(10, int(context.get("task_reschedule_count") or 0))
    return min(FIRST_PAUSE * (1 << looks), LONGEST_PAUSE)


FIRST_PAUSE: Final = timedelta(seconds=4)
LONGEST_PAUSE: Final = timedelta(minutes=1)


def raise_if_held_back(node: str, tasks: Iterable[Any]) -> None:
    """
    Refuse `task >> node`.

    :raises ArgumentError: always, naming the tasks
    """
    names = ", ".join(str(getattr(task, "task_id", task)) for task in tasks)
    raise ArgumentError(
        "dependency",
        f"{names} >> {node}",
        "a task in front of the whole project: dbt builds all nodes in one process and cannot wait for a task in the"
        " middle of it",
    )
