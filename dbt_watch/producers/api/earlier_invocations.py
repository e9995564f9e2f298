"""
What has been asked of a server before: by earlier attempts of a task, and by the other tasks of its project in the same DAG run.

`producers.api.operator` asks before it posts. dbt must not run twice at once for one project and run. The server itself tells what
runs, by the marks in the ids of invocations (`producers.api.invocation_ids`). One that lists nothing is asked for the ids that are
known; what remains is its own to serialize, as the contract has it: one dbt at a time for a project.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.airflow.supervisor import patiently, read_state_now, read_states_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.task_states import OVER
from dbt_watch.exceptions import ProjectIsBusy
from dbt_watch.producers.api.answers import NOT_FOUND
from dbt_watch.producers.api.invocation_ids import AttemptKey, Marks, marks_of, task_mark
from dbt_watch.producers.api.invocation_log import InvocationFollowing, end_of
from dbt_watch.producers.waiting import Reminders, await_ends, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dbt_watch.producers.api.answers import RemoteInvocation
    from dbt_watch.producers.api.client import WorkerClient
    from dbt_watch.producers.attempt import Attempt
    from dbt_watch.producers.build_watch import BuildWatch

log = logging.getLogger(__name__)

# In seconds.
POLL: Final = 1.0
GONE_WITHIN: Final = 120.0  # an invocation that is aborted

MAX_ATTEMPTS: Final = 20
"""How many earlier attempts are asked for."""


class EarlierInvocations:
    """
    The invocations of a task's earlier attempts: the `EarlierRuns` of a producer on a server.

    :param client: what the server is asked with
    :param key: the attempt that comes after them
    :param attempt: likewise
    :param results: see `InvocationFollowing`
    """

    def __init__(
        self, client: WorkerClient, key: AttemptKey, attempt: Attempt, *, results: str = "run_results.json"
    ) -> None:
        self._client = client
        self._key = key
        self._attempt = attempt
        self._results = results
        self.running: RemoteInvocation | None = None
        self.ended: RemoteInvocation | None = None
        self._unwanted: list[RemoteInvocation] = []
        self._find()

    def _find(self) -> None:
        kept = self._attempt.memory.invocation
        ours = {} if kept is None or kept.generation != self._key.generation else {kept.task_id: kept.is_read}
        for task_id in dict.fromkeys((*ours, *self._ids())):
            found = self._look(task_id)
            if found.state == NOT_FOUND:
                continue
            if found.is_open and not found.abort_requested:
                self.running = found
            elif found.is_open:
                self._unwanted.append(found)
            elif not ours.get(task_id):
                self.ended = found
            break
        if kept is not None and kept.generation != self._key.generation:
            self._add(self._look(kept.task_id))
        for listed in self._client.run(self._client.server.open_invocations()) or ():
            marks = marks_of(listed.task_id)
            if marks is not None and marks.project == self._key.project_mark and self._key.owns(marks):
                self._add(listed)

    def _ids(self) -> Iterator[str]:
        """Yield the ids of earlier attempts since the last clear, the latest first."""
        ti = self._attempt.task_instance
        first = (ti.max_tries or 0) - (ti.task.retries or 0) + 1
        for number in range(self._key.attempt - 1, max(first, self._key.attempt - MAX_ATTEMPTS, 1) - 1, -1):
            yield _of_attempt(self._key, number).invocation_id

    def _add(self, found: RemoteInvocation) -> None:
        known = [each.task_id for each in (*self._unwanted, self.running) if each is not None]
        if found.is_open and found.task_id not in known:
            self._unwanted.append(found)

    def _look(self, task_id: str) -> RemoteInvocation:
        return self._client.run(self._client.server.look(task_id))

    def clear_away(self, *, everything: bool = False) -> None:
        """
        Abort what must not run on, and wait for its end.

        :param everything: what could be followed as well
        :raises TimeoutError: when an invocation does not end
        """
        if everything and self.ended is not None:
            self.put_aside(self.ended)
        unwanted = [*self._unwanted, *([self.running] if everything and self.running else [])]
        for found in unwanted:
            log.info(
                "Aborting the invocation %s: it was posted before this task was cleared, or must not be taken over",
                found.task_id,
            )
        abort_and_wait(self._client, unwanted, self._attempt.tick)

    def words(self, run: RemoteInvocation) -> str:
        """Return what to call an invocation."""
        return f"the invocation {run.task_id}"

    def exit_code(self, run: RemoteInvocation) -> int | None:
        """Return dbt's exit code; None when dbt did not get to its end."""
        return end_of(run)[0]

    def end_words(self, run: RemoteInvocation) -> str:
        """Return how an invocation has ended."""
        return f"{run.state}: {run.why}" if run.why else run.state

    def read(self, run: RemoteInvocation, watch: BuildWatch) -> None:
        """Read the log of an invocation that has ended."""
        following = InvocationFollowing(self._client.server, run.task_id, watch, results=self._results)
        end = self._client.run(following.steps())
        watch.end(end.exit_code, end.reason, run_results=end.run_results, no_log=end.no_log)

    def put_aside(self, run: RemoteInvocation) -> None:
        """Remember that an invocation was read."""
        self._attempt.memory.remember_invocation(run.task_id, is_read=True)


class ProjectInvocations:
    """
    The invocations of a project in the run of a task.

    :param client: what the server is asked with
    :param key: the attempt that looks at them
    :param task_instance: of the task
    :param tasks: the ids of all tasks that may post for the project
    """

    def __init__(
        self, client: WorkerClient, key: AttemptKey, task_instance: Any, tasks: Iterable[str]
    ) -> None:
        self._client = client
        self._key = key
        self._producer = key_of(task_instance, key.producer)
        self._tasks = {task_mark(task): task for task in (*tasks, key.producer)}
        self._has_list = True

    def others(self) -> list[tuple[RemoteInvocation, Marks]]:
        """Return the invocations of other tasks that wait or run."""
        listed = self._client.run(self._client.server.open_invocations())
        if listed is None and self._has_list:
            self._has_list = False
            log.info(
                "The server does not list its invocations, so it alone must prevent dbt from running twice"
            )
        found = [(each, marks_of(each.task_id)) for each in listed or ()]
        return [
            (each, marks)
            for each, marks in found
            if marks is not None and marks.project == self._key.project_mark and not self._key.owns(marks)
        ]

    def await_others(self, on_tick: Callable[[], None]) -> None:
        """
        Wait until dbt has ended in the invocations of all other tasks.

        One whose task has ended is nobody's any more, as after the death of a worker; it is aborted.

        :param on_tick: called often meanwhile; may raise to stop the waiting
        :raises TimeoutError: when an invocation that is aborted does not end
        """
        reminders = Reminders()
        waited_for: set[str] = set()
        while others := self.others():
            owners = {marks.task: self._tasks.get(marks.task) for _, marks in others}
            known = sorted(filter(None, owners.values()))
            states = patiently(functools.partial(read_states_now, self._producer, known)) if known else {}
            over = {mark for mark, task in owners.items() if task is not None and states.get(task) in OVER}
            nobodys = [found for found, marks in others if marks.task in over]
            if nobodys:
                log.info("Aborting the invocations of tasks that have ended: %s", _names(nobodys))
                abort_and_wait(self._client, nobodys, on_tick)
                continue
            waited_for.update(known)
            for found, _ in others:
                if reminders.is_due(found.task_id):
                    log.info("Waiting until dbt has ended in the invocation %s", found.task_id)
            pause(POLL, on_tick)
        await_ends(self._producer, waited_for, POLL, on_tick)

    def give_way(self, own: RemoteInvocation) -> None:
        """
        Find out whether a sensor must give way although it has posted: to the producer, or to a sensor that was first.

        The producer looks for invocations once it is running, and a sensor for the producer's state once it has posted. So,
        however the two meet, one of them sees the other.

        :param own: the sensor's; aborted when it has to give way
        :raises ProjectIsBusy: if it has to
        """
        state = patiently(lambda: read_state_now(self._producer))
        if state not in OVER:
            self._abort(own)
            raise ProjectIsBusy(f"{self._producer.task_id} is {state}: it builds the project")
        others = [each for each, _ in self.others()]
        mine = self._client.run(self._client.server.look(own.task_id)).created_at
        for other in others:
            if other.created_at is None or mine is None or other.created_at <= mine:
                self._abort(own)
                raise ProjectIsBusy(f"dbt runs in the invocation {other.task_id}")

    def _abort(self, found: RemoteInvocation) -> None:
        self._client.run(self._client.server.abort(found.task_id))


def abort_and_wait(
    client: WorkerClient, invocations: Iterable[RemoteInvocation], on_tick: Callable[[], None]
) -> None:
    """
    Abort invocations, and wait until they have ended.

    :raises TimeoutError: when one has not ended in time
    """
    for found in invocations:
        deadline = time.monotonic() + GONE_WITHIN
        client.run(client.server.abort(found.task_id))
        while client.run(client.server.look(found.task_id)).is_open:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the invocation {found.task_id} was aborted but is still running, and dbt must not run twice"
                )
            pause(POLL, on_tick)


def _of_attempt(key: AttemptKey, number: int) -> AttemptKey:
    return msgspec.structs.replace(key, attempt=number)


def _names(invocations: Iterable[RemoteInvocation]) -> str:
    return ", ".join(each.task_id for each in invocations)
