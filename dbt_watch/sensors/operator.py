"""
The task of one node, or of the tests of one node.

`rendering` makes one for each planned task. It imports neither dbt nor Kubernetes, reads no manifest and holds no
more than the names of its nodes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec
from airflow.sdk import BaseOperator, timezone

from dbt_watch.airflow.compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from dbt_watch.airflow.dag_authoring import declare_aliases, start_from_trigger, take_no_pool_slot
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.backoff import Backoff
from dbt_watch.core.outcome import Verdict
from dbt_watch.core.task_states import NEVER_RUNS, OVER, RED
from dbt_watch.core.xcom_values import results_in
from dbt_watch.exceptions import ArgumentError, ProjectIsBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from airflow.sdk import Context, EdgeModifier

    from dbt_watch.airflow.dag_authoring import DependencyMixin
    from dbt_watch.airflow.task_instances import TaskKey
    from dbt_watch.core.assets import TrackedAssets
    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult
    from dbt_watch.sensors.updates import Update

NODE_EXECUTOR: Final = "dbt_watch.NodeExecutor"
"""The executor that runs sensors without a worker; a sensor that is for it has it as its `executor`."""
_TRIGGER_CLASS = "dbt_watch.sensors.trigger.NodeTrigger"
# How far a look goes back, so that its cost does not grow with the run: 6 s of it, when something happens all the time.
MAX_PAGES = 20


class Rebuild(Protocol):
    """How a sensor that was cleared alone builds its own nodes; `rendering.rebuild` implements it."""

    @property
    def turn(self) -> int:
        """The place of the sensor in an order of all sensors that goes along the lineage."""

    def parents(self) -> Sequence[str]:
        """Return the task ids of the sensors directly before this one."""

    def barriers(self) -> Sequence[str]:
        """Return the ids of the tasks that are none of the project's and come directly before the sensor's nodes."""

    def others(self) -> Iterable[str]:
        """Return the task ids of all other sensors, in their order."""

    def run(self, context: Context) -> tuple[Sequence[NodeResult], Closed]:
        """
        Build the nodes; return what became of them, and how dbt ended.

        :raises ProjectIsBusy: when dbt runs for the project elsewhere by now; nothing was built
        """

    def kill(self) -> None:
        """End the build, if there is one."""


class DbtNodeSensor(BaseOperator):
    """
    Reaches its final state the moment dbt finishes its nodes.

    :param producer_task_id: the task that runs dbt
    :param unique_ids: the nodes that this task stands for
    :param kind: what the UI calls this kind of task, such as "dbt model"
    :param from_trigger: start in the triggerer, without a worker (Airflow 3.3 and later; ignored before, and for a sensor
        with `executor=NODE_EXECUTOR`)
    :param looks_first: when it starts on a worker, look whether its nodes are done before it is deferred; of no use for
        those that start with the producer, unless they were cleared
    :param worker_for: the ends that need a worker, see `NodeTrigger`
    :param rebuild: how its nodes are built when it was cleared alone
    :param on_warning_callback: called with the context when a node ended with a warning; needs a worker for "warn"
    :param assets: the nodes among them of whose builds Airflow is told by an asset
    :param tells_assets: whether it tells so whenever it ends well, and not only when it was cleared alone and has built them itself;
        then it goes on on a worker for that, unless its executor tells
    """

    shallow_copy_attrs = ("_rebuild", "assets")

    def __init__(
        self,
        *,
        producer_task_id: str,
        unique_ids: Sequence[str],
        kind: str = "dbt node",
        from_trigger: bool = True,
        looks_first: bool = False,
        worker_for: Collection[str] = (),
        rebuild: Rebuild | None = None,
        on_warning_callback: Sequence[Callable[[Context], object]] = (),
        assets: TrackedAssets | None = None,
        tells_assets: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # A sensor that held a slot of a pool while it waits, as it would in one with `include_deferred`, could keep its
        # producer from ever starting, or that of another project.
        take_no_pool_slot(self)
        self.producer_task_id = producer_task_id
        self.unique_ids = tuple(unique_ids)
        self.custom_operator_name = kind
        self.looks_first = looks_first
        self.worker_for = tuple(worker_for)
        self._rebuild = rebuild
        self._on_warning = tuple(on_warning_callback)
        self._is_run_by_executor = self.executor == NODE_EXECUTOR
        self.assets = assets
        self.tells_assets = tells_assets and assets is not None
        if assets is not None and self.tells_assets:
            declare_aliases(self, assets.aliases)
            if not self._is_run_by_executor:
                # A trigger that ends a task tells nothing.
                self.worker_for = tuple(dict.fromkeys((*self.worker_for, Verdict.SUCCEED.value)))
        self._starts_from_trigger = from_trigger
        self._tell_starter()

    def follow(self, producer_task_id: str) -> None:
        """Have another task run dbt for its nodes; while the DAG is parsed."""
        if producer_task_id != self.producer_task_id:
            self.producer_task_id = producer_task_id
            self._tell_starter()

    def _tell_starter(self) -> None:
        """Leave word for whatever starts the task that is no worker."""
        if self._is_run_by_executor:
            # Beside what another executor is told, which runs it where it needs a worker.
            self.executor_config = {**(self.executor_config or {}), NODE_EXECUTOR: self._executor_arguments()}
        elif self._starts_from_trigger:
            start_from_trigger(self, _TRIGGER_CLASS, self._trigger_arguments(), "execute_complete")

    def _trigger_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "producer_task_id": self.producer_task_id,
            "unique_ids": list(self.unique_ids),
            "turn": 0 if self._rebuild is None else self._rebuild.turn,
        }
        # Where a task starts from its trigger, the serialized DAG holds all of this.
        if self.worker_for:
            arguments["worker_for"] = list(self.worker_for)
        return arguments

    def _executor_arguments(self) -> dict[str, Any]:
        """Return what the executor needs to know, which sees no more of a task than this and its name."""
        arguments = {**self._trigger_arguments(), "tells_failures": bool(self.on_failure_callback)}
        if self.tells_assets:
            arguments["assets"] = msgspec.to_builtins(self.assets)
        return arguments

    def execute(self, context: Context) -> Any:
        """End at once if the nodes are done already, else hand over to the trigger."""
        # Not for a DAG file to load, but for a worker.
        from dbt_watch.airflow.supervisor import runs_in_dag_test  # noqa: PLC0415
        from dbt_watch.sensors.journal_look import look_once  # noqa: PLC0415
        from dbt_watch.sensors.updates import sensor_of  # noqa: PLC0415

        in_dag_test = runs_in_dag_test()
        # One that its executor has sent here is to be looked at in whole: the executor has seen how it ends.
        was_sent = self._is_run_by_executor and not in_dag_test
        if in_dag_test or was_sent or self.looks_first or context["ti"].try_number > 1:
            update = look_once(
                context["ti"],
                self.producer_task_id,
                sensor_of(context["ti"], self.unique_ids),
                max_pages=None if in_dag_test or was_sent else MAX_PAGES,
            )
            if update.decision.verdict is Verdict.BUILD:
                is_turn = was_sent or self._is_cleared_alone(context)
                return self._build(context) if is_turn else self._wait()
            if update.is_over:
                return self._end(context, update)
        if in_dag_test:
            # Tasks run one after the other here: a sensor that waited would keep the producer from starting.
            raise AirflowRescheduleException(timezone.utcnow() + pause_in_dag_test(context))
        return self._wait()

    def _wait(self, after: Sequence[str] = ()) -> Any:
        """
        Hand over to the trigger.

        :param after: the tasks that have to end before this one may build its nodes
        """
        from dbt_watch.sensors.trigger import NodeTrigger  # noqa: PLC0415 - as in `execute`

        trigger = NodeTrigger(**self._trigger_arguments(), from_worker=True, after=after)
        return self.defer(trigger=trigger, method_name="execute_complete")

    def _end(self, context: Context, update: Update, *, has_built: bool = False) -> Any:
        """
        End on this worker, with the log that the trigger would write.

        :param has_built: whether it has built its nodes itself
        """
        from dbt_watch.core.xcom_values import xcom_value  # noqa: PLC0415 - as in `execute`
        from dbt_watch.sensors.trigger import decision_payload, write_log  # noqa: PLC0415

        # The exception of a failure tells its reason, that of a skip does not on every version.
        write_log(self.log, update, with_reason=update.decision.verdict is not Verdict.FAIL)
        event = {**decision_payload(update.decision), "results": xcom_value(update.results)}
        if has_built and not self.tells_assets and update.decision.verdict is Verdict.SUCCEED:
            self._tell_builds(context, update.results)
        return self.execute_complete(context, event)

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
            return self._build(context)
        self._publish(context, event["results"], keep=verdict is not Verdict.SUCCEED)
        if self.tells_assets and verdict is Verdict.SUCCEED:
            self._tell_builds(context, results_in(event["results"]))
        if verdict is Verdict.FAIL:
            raise AirflowFailException(event["reason"])
        if verdict is Verdict.SKIP:
            raise AirflowSkipException(event["reason"])
        return event["results"]

    def _tell_builds(self, context: Context, results: Iterable[NodeResult]) -> None:
        if self.assets is None:
            return
        from dbt_watch.airflow.asset_events import tell  # noqa: PLC0415 - as in `execute`

        tell(context, self.assets.events(results))

    def _publish(self, context: Context, value: Any, *, keep: bool) -> None:
        """
        Hand Airflow's callbacks the results, as `dbt_results` of their context, and call those for warnings.

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

    def _is_cleared_alone(self, context: Context) -> bool:
        """Return whether all other sensors have ended, so that nobody else is going to build nodes."""
        from dbt_watch.airflow.supervisor import batches, read_states_now  # noqa: PLC0415 - as in `execute`

        key = key_of(context["ti"])
        try:
            # Where many were cleared, the first few tell.
            return all(
                state in OVER
                for batch in batches(self._known_rebuild.others())
                for state in read_states_now(key, batch).values()
            )
        except Exception as error:  # noqa: BLE001 - the hub, which asks again, lets one build after the other
            self.log.warning("Airflow did not return the states of the other tasks: %s", error)
            return False

    def _build(self, context: Context) -> Any:
        """
        Build the nodes alone, and end as they do; wait once more when it is not their turn.

        A worker does not wait for other tasks: these may need its place.
        """
        from dbt_watch.airflow.supervisor import patiently, read_states_now  # noqa: PLC0415
        from dbt_watch.sensors.updates import final_update  # noqa: PLC0415 - as in `execute`

        key = key_of(context["ti"])
        parents = self._known_rebuild.parents()
        states = patiently(lambda: read_states_now(key, [*parents, self.producer_task_id]))
        failed = [task for task in parents if states[task] in RED]
        if failed:
            raise AirflowFailException(f"not built: upstream {', '.join(failed)} failed")
        waits_for = [task for task, state in states.items() if state not in OVER]
        if waits_for:
            self.log.info("Waiting for %s", ", ".join(waits_for))
            return self._wait(after=[task for task in waits_for if task != self.producer_task_id])
        self._heed_barriers(key)
        try:
            results, closed = self._known_rebuild.run(context)
        except ProjectIsBusy as busy:
            self.log.info("%s", busy)
            return self._wait()
        return self._end(context, final_update(self.unique_ids, results, closed), has_built=True)

    def _heed_barriers(self, key: TaskKey) -> None:
        """
        See to it that what comes before the nodes, and is none of the project's, has ended well.

        :raises AirflowFailException: when one of these tasks has failed
        :raises AirflowSkipException: when one has not run
        :raises AirflowRescheduleException: when one has not ended; all instances of a mapped one have to
        """
        from dbt_watch.airflow.supervisor import patiently, read_all_states_now  # noqa: PLC0415 - as in `execute`

        barriers = self._known_rebuild.barriers()
        found = patiently(lambda: read_all_states_now(key, barriers)) if barriers else {}
        for task, states in found.items():
            if any(state in RED for state in states):
                raise AirflowFailException(f"not built: task {task} failed")
            if any(state not in OVER for state in states):
                self.log.info("Waiting for %s", task)
                raise AirflowRescheduleException(timezone.utcnow() + PAUSE_FOR_BARRIERS)
            if states and all(state in NEVER_RUNS for state in states):
                raise AirflowSkipException(f"not built: task {task} was skipped")

    @property
    def _known_rebuild(self) -> Rebuild:
        if self._rebuild is None:
            raise AirflowFailException(
                "cleared on its own, but its project is not known, so its nodes cannot be built"
            )
        return self._rebuild

    def on_kill(self) -> None:
        """End a build of its own."""
        if self._rebuild is not None:
            self._rebuild.kill()

    def update_relative(
        self, other: DependencyMixin, upstream: bool = True, edge_modifier: EdgeModifier | None = None
    ) -> None:
        """Refuse a task in front of a sensor: it would hold nothing back but the sensor itself."""
        super().update_relative(other, upstream, edge_modifier)
        if upstream:
            raise_if_held_back(self.task_id, other.leaves)


def pause_in_dag_test(context: Context) -> timedelta:
    """Return how long a sensor waits in `dag.test()` until it looks again: each time twice as long, up to a minute."""
    looks = int(context.get("task_reschedule_count") or 0)
    pauses = Backoff(FIRST_PAUSE.total_seconds(), LONGEST_PAUSE.total_seconds())
    return timedelta(seconds=pauses.after(looks + 1))


PAUSE_FOR_BARRIERS: Final = timedelta(seconds=30)
FIRST_PAUSE: Final = timedelta(seconds=4)
LONGEST_PAUSE: Final = timedelta(minutes=1)


def raise_if_held_back(node: str, tasks: Iterable[Any]) -> None:
    """
    Refuse `task >> sensor`.

    :raises ArgumentError: always, naming the tasks
    """
    names = ", ".join(str(getattr(task, "task_id", task)) for task in tasks)
    raise ArgumentError(
        "dependency",
        f"{names} >> {node}",
        'a task upstream of the project, or of one of its nodes: task >> project["orders"]',
    )
