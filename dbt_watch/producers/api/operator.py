"""
The task that has a server run a whole dbt project: `DbtApiOperator`.

It posts, and follows the log; a deferred one leaves the following to `producers.api.trigger`. What is the same as in a pod is in
`producers.dbt_task`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from dbt_watch.airflow.configuration import default_deferrable, own_address
from dbt_watch.airflow.operator_refusals import refusals_named
from dbt_watch.airflow.task_instances import generation_of, key_of
from dbt_watch.core.command import server_arguments
from dbt_watch.core.text import one_line
from dbt_watch.exceptions import DbtWatchError
from dbt_watch.producers.api.attempt import ON_THE_SERVER, ApiAttempt
from dbt_watch.producers.dbt_task import DbtTaskMixin
from dbt_watch.producers.dbt_trigger import END
from dbt_watch.producers.retry_plan import RetryPlanner
from dbt_watch.producers.retry_state import Memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context

    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.api.answers import RemoteInvocation
    from dbt_watch.producers.api.client import WorkerClient
    from dbt_watch.producers.api.connection import ApiConnection
    from dbt_watch.producers.api.earlier_invocations import EarlierInvocations, ProjectInvocations
    from dbt_watch.producers.api.invocation_ids import AttemptKey
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.retry_plan import AttemptPlan

ABORT_WITHIN_S = 3.0
"""How long the end of an invocation is asked for when the task is stopped; Airflow kills a task after 5 seconds."""
MAX_SELECTION_BYTES = 150_000
"""How long a selection may be; the server of this library takes requests of 256 KiB."""


class DbtApiOperator(DbtTaskMixin, BaseOperator):
    """
    Has a server run `dbt build`, or `dbt source freshness`; see `DbtTaskMixin`.

    :param conn_id: Airflow's connection to the server
    :param deferrable: follow dbt in the triggerer; by default as Airflow's configuration says
    """

    template_fields = ("build", "conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"build": "json"}
    attempt_class = ApiAttempt

    def __init__(self, *, conn_id: str = "dbt_api", deferrable: bool | None = None, **kwargs: Any) -> None:
        with refusals_named(DbtApiOperator, kwargs):
            super().__init__(**kwargs)
        self.conn_id = conn_id
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self._connection: ApiConnection | None = None
        self._invocation_id: str | None = None
        self._is_stopped = False

    def execute(self, context: Context) -> Any:
        """
        Have dbt run once, and the journal with it.

        :raises DbtRunFailed: when dbt ended with another exit code than 0
        :raises InvocationLost: when the server did not run dbt to its end
        :raises ServerError: when the server does not answer, or refuses
        """
        attempt = self._attempt = ApiAttempt(context, self.stop_dbt)

        def run() -> Any:
            return self._built(context, attempt, lambda: self._run(context, attempt))

        return self._attempted(context, attempt, run)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """End as the trigger has found, after a deferral."""
        told = event[END]
        memory = Memory(context)
        memory.remember_end(well=told["exit_code"] == 0)
        self._task_end(context).say_at_once(told)
        if event.get("invocation_id") and told["exit_code"] is not None:
            memory.remember_invocation(event["invocation_id"], is_read=True)
        return self._ended_as_told(context, told, None)

    def stop_dbt(self) -> None:
        """Ask the server to end dbt, without waiting for long."""
        # Not for a DAG file to load: httpx takes a tenth of a second.
        from dbt_watch.producers.api.client import abort_now  # noqa: PLC0415

        was_stopped, self._is_stopped = self._is_stopped, True
        if self._connection is not None and self._invocation_id is not None and not was_stopped:
            self.log.info("Aborting the invocation %s", self._invocation_id)
            abort_now(self._connection, self._invocation_id, within=ABORT_WITHIN_S)

    def _explain(self, attempt: Attempt, error: Exception) -> str:
        """Return in one line what kept the server from running dbt to its end, or us from hearing of it."""
        del attempt
        words = one_line(str(error), _MAX_CHARS) or type(error).__name__
        return words if isinstance(error, DbtWatchError) else f"the server did not run dbt: {words}"

    # One attempt.

    def _run(self, context: Context, attempt: ApiAttempt) -> None:
        from dbt_watch.producers.api.client import WorkerClient  # noqa: PLC0415 - as in `stop_dbt`

        ti: Any = context["ti"]
        deferrable = self._may_defer(ti)
        wanted = self._wanted_now(context, attempt)
        if wanted.whole is None and ti.try_number == 1:
            self._end_without_dbt(attempt, wanted.left_out)
            return
        client = WorkerClient(self.conn_id, on_tick=attempt.tick, talking=attempt.signal.talking)
        self._connection = client.connection
        try:
            key = attempt_key(context, client.connection.prefix, self.task_id)
            if wanted.whole is None:
                self._earlier(client, key, attempt).clear_away(everything=True)
                self._end_without_dbt(attempt, wanted.left_out)
                return
            project = self._project(client, key, ti)
            project.await_others(attempt.tick)
            plan: AttemptPlan[RemoteInvocation] | None = wanted.whole
            if ti.try_number > 1 or self.is_lone(ti):
                earlier = self._earlier(client, key, attempt)
                plan = RetryPlanner(
                    self, attempt, wanted.whole, earlier, max_bytes=MAX_SELECTION_BYTES
                ).plan()
            if self._is_stopped:
                raise DbtWatchError("the task was stopped before the server was asked to run dbt")
            if plan is None:
                self._end_without_dbt(attempt, wanted.left_out)
                return
            self._watch_build(attempt, plan.nodes, (*wanted.left_out, *plan.adopted))
            invocation = plan.follows or self._post(
                client, key, server_arguments(wanted.build, plan.selection)
            )
            self._invocation_id = invocation.task_id
            attempt.memory.remember_invocation(invocation.task_id)
            if plan.follows is None and self.is_lone(ti):
                project.give_way(invocation)
            if deferrable and invocation.is_open:
                self._defer(context, attempt, invocation)
            self._follow(client, attempt, invocation)
        finally:
            client.close()

    def _project(self, client: WorkerClient, key: AttemptKey, task_instance: Any) -> ProjectInvocations:
        from dbt_watch.producers.api.earlier_invocations import ProjectInvocations  # noqa: PLC0415

        return ProjectInvocations(client, key, task_instance, self.siblings or self.watched)

    def _earlier(self, client: WorkerClient, key: AttemptKey, attempt: ApiAttempt) -> EarlierInvocations:
        from dbt_watch.producers.api.earlier_invocations import EarlierInvocations  # noqa: PLC0415

        return EarlierInvocations(client, key, attempt, results=self._results)

    def _end_without_dbt(self, attempt: ApiAttempt, left_out: Iterable[NodeResult]) -> None:
        """End an attempt in which there is nothing to build."""
        self._watch_build(attempt, frozenset(), left_out)
        attempt.close(0)

    def _post(self, client: WorkerClient, key: AttemptKey, command: list[str]) -> RemoteInvocation:
        # Before the server has it: whoever stops the task meanwhile has to name it.
        self._invocation_id = key.invocation_id
        posted = client.run(client.server.post(command, key.invocation_id, self.project_dir))
        self.log.info("The server has accepted the invocation %s: %s", posted.task_id, posted.state)
        if self._is_stopped:
            self._is_stopped, self._invocation_id = False, posted.task_id
            self.stop_dbt()
        return posted

    def _defer(self, context: Context, attempt: ApiAttempt, invocation: RemoteInvocation) -> None:
        from dbt_watch.producers.api.trigger import DbtApiTrigger  # noqa: PLC0415 - as in `stop_dbt`

        attempt.hand_over()
        trigger = DbtApiTrigger(
            conn_id=self.conn_id,
            invocation_id=invocation.task_id,
            results=self._results,
            **self._trigger_arguments(context, attempt, attempt.nodes),
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _follow(self, client: WorkerClient, attempt: ApiAttempt, invocation: RemoteInvocation) -> None:
        from dbt_watch.producers.api.invocation_log import InvocationFollowing  # noqa: PLC0415

        assert attempt.watch is not None  # noqa: S101 - `_watch_build` has made it
        attempt.notes.phase(*ON_THE_SERVER)
        following = InvocationFollowing(
            client.server, invocation.task_id, attempt.watch, results=self._results
        )
        end = client.run(following.steps())
        attempt.close(end.exit_code, end.reason, run_results=end.run_results, no_log=end.no_log)
        if end.exit_code is not None:
            attempt.memory.remember_invocation(invocation.task_id, is_read=True)

    @property
    def _results(self) -> str:
        """The artifact in which dbt's own results are."""
        return "run_results.json" if self.selection.builds else "sources.json"


def attempt_key(context: Context, prefix: str, producer: str) -> AttemptKey:
    """
    Return which attempt this is, as the ids of invocations tell it.

    :param prefix: what the connection puts in front
    :param producer: the id of the task that runs the whole project, or of one that runs another command
    """
    from dbt_watch.producers.api.invocation_ids import AttemptKey  # noqa: PLC0415 - as in `stop_dbt`

    ti: Any = context["ti"]
    own = key_of(ti)
    began = getattr(context.get("dag_run"), "start_date", None)
    return AttemptKey(
        deployment=f"{own_address()} {prefix}",
        dag_id=own.dag_id,
        run_id=own.run_id,
        map_index=own.map_index,
        producer=producer,
        task_id=own.task_id,
        life="" if began is None else began.isoformat(),
        generation=generation_of(ti),
        attempt=ti.try_number,
    )


_MAX_CHARS = 800
