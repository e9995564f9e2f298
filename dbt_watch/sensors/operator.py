"""
The task of one node, or of the tests of one node.

`rendering` makes one for each planned task. It imports neither dbt nor Kubernetes, reads no manifest and holds no
more than the names of its nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, timezone
from airflow.triggers.base import StartTriggerArgs

from dbt_watch.compat import (
    STARTS_FROM_TRIGGER,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from dbt_watch.core.outcome import Verdict
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context
    from airflow.sdk.definitions._internal.mixins import DependencyMixin
    from airflow.sdk.definitions.edges import EdgeModifier

_TRIGGER_CLASS = "dbt_watch.sensors.trigger.NodeTrigger"
# How far a look goes back, so that its cost does not grow with the run: 6 s of it, when something happens all the time.
MAX_PAGES = 20


class DbtNodeSensor(BaseOperator):
    """
    Reaches its final state the moment dbt finishes its nodes.

    :param producer_task_id: the task that runs dbt
    :param unique_ids: the nodes that this task stands for
    :param kind: what the UI calls this kind of task, such as "dbt model"
    :param from_trigger: start in the triggerer, without a worker (Airflow 3.3 and later; ignored before)
    :param looks_first: when it starts on a worker, look whether its nodes are done before it is deferred; of no use for
        those that start with the producer
    :param needs_worker: end on a worker, for what only a worker does
    """

    ui_color = "#ffd7c2"

    def __init__(
        self,
        *,
        producer_task_id: str,
        unique_ids: Sequence[str],
        kind: str = "dbt node",
        from_trigger: bool = True,
        looks_first: bool = False,
        needs_worker: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.producer_task_id = producer_task_id
        self.unique_ids = tuple(unique_ids)
        self.custom_operator_name = kind
        self.looks_first = looks_first
        self.needs_worker = needs_worker
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
            "needs_worker": self.needs_worker,
        }

    def execute(self, context: Context) -> Any:
        """End at once if the nodes are done already, else hand over to the trigger."""
        # Not for a DAG file to load, but for a worker.
        from dbt_watch.sensors.once import look_once  # noqa: PLC0415
        from dbt_watch.sensors.supervisor import runs_in_dag_test  # noqa: PLC0415
        from dbt_watch.sensors.trigger import (  # noqa: PLC0415
            NodeTrigger,
            cleared_at,
            decision_payload,
            write_log,
            xcom_value,
        )

        in_dag_test = runs_in_dag_test()
        if in_dag_test or self.looks_first:
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
            raise AirflowRescheduleException(timezone.utcnow())

        return self.defer(trigger=NodeTrigger(**self._trigger_arguments()), method_name="execute_complete")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ARG002 - Airflow's signature
        """
        End as decided.

        :param event: `{"verdict": "succeed" | "fail" | "skip", "reason": ..., "results": ...}`
        :returns: the node's result as a dict
        :raises AirflowFailException: when the decision is that the task has failed; it is not tried again
        :raises AirflowSkipException: when dbt had nothing to do here
        """
        verdict = Verdict(event["verdict"])
        if verdict is Verdict.FAIL:
            raise AirflowFailException(event["reason"])
        if verdict is Verdict.SKIP:
            raise AirflowSkipException(event["reason"])
        return event["results"]

    def update_relative(
        self, other: DependencyMixin, upstream: bool = True, edge_modifier: EdgeModifier | None = None
    ) -> None:
        """Refuse a task in front of a single node: dbt decides the order, in one process, and would not wait."""
        super().update_relative(other, upstream, edge_modifier)
        if upstream:
            raise_if_held_back(self.task_id, other.leaves)


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
