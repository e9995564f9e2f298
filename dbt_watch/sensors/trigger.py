"""
The trigger of a sensor: waits at the hub, writes the sensor's log, and ends the task where it runs.

Airflow's triggerer calls it, either straight from the scheduler (3.3) or after `DbtNodeSensor.execute`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import (
    BaseTrigger,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from dbt_watch.airflow.task_instances import key_of
from dbt_watch.airflow.trigger_events import last_event
from dbt_watch.core.log.task_log import finished_lines, started_line
from dbt_watch.core.outcome import WARN, Decision, Verdict
from dbt_watch.core.xcom_values import xcom_value
from dbt_watch.sensors.hub import Subscription, hub_for
from dbt_watch.sensors.updates import Update, sensor_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Sequence

TRIGGER_CLASS: Final = "dbt_watch.sensors.trigger.NodeTrigger"


class NodeTrigger(BaseTrigger):
    """
    Waits until a decision about some nodes has been made.

    :param producer_task_id: the task that runs dbt
    :param unique_ids: the nodes that the sensor stands for
    :param worker_for: with which ends the task goes on in `DbtNodeSensor.execute_complete` on a worker, instead of
        ending here: "succeed", "skip", or "warn" for any with a warning
    :param turn: see `Sensor`
    :param from_worker: whether a worker has deferred the task; otherwise the scheduler started it here
    :param after: see `Sensor`
    """

    def __init__(
        self,
        *,
        producer_task_id: str,
        unique_ids: Sequence[str],
        worker_for: Collection[str] = (),
        turn: int = 0,
        from_worker: bool = False,
        after: Sequence[str] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # of LoggingMixin
        self.producer_task_id = producer_task_id
        self.unique_ids = tuple(unique_ids)
        self.worker_for = frozenset(worker_for)
        self.turn = turn
        self.from_worker = from_worker
        self.after = tuple(after)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what another triggerer needs to make this trigger again."""
        arguments = {
            "producer_task_id": self.producer_task_id,
            "unique_ids": list(self.unique_ids),
            "worker_for": sorted(self.worker_for),
            "turn": self.turn,
            "from_worker": self.from_worker,
            "after": list(self.after),
        }
        return (TRIGGER_CLASS, arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait at the hub; yield one event, which ends the task or takes it to a worker."""
        deferred_at = time.monotonic() if self.from_worker else None
        event = self._event(await self._decided())
        async for last in last_event(event, deferred_at=deferred_at):
            yield last

    async def _decided(self) -> Update:
        printed: set[str] = set()
        hub = hub_for(key_of(self.task_instance, self.producer_task_id))
        sensor = sensor_of(self.task_instance, self.unique_ids, turn=self.turn, after=self.after)
        with Subscription(hub, sensor) as updates:
            while True:
                update = await anext(updates)
                for part in parts(update):
                    write_log(self.log, part, printed)
                    await asyncio.sleep(
                        0
                    )  # what many nodes have to tell must not keep the other triggers waiting
                if update.is_over:
                    return update

    def _event(self, update: Update) -> TriggerEvent:
        value = xcom_value(update.results)
        if needs_worker(update, self.worker_for):
            return TriggerEvent({**decision_payload(update.decision), "results": value})
        if update.decision.verdict is Verdict.SUCCEED:
            return TaskSuccessEvent(xcoms={"return_value": value})
        if update.decision.verdict is Verdict.SKIP:
            return TaskSkippedEvent(xcoms={"return_value": value})
        return TaskFailedEvent(xcoms={"return_value": value})


def needs_worker(update: Update, worker_for: Collection[str]) -> bool:
    """
    Return whether a sensor continues on a worker: to build its nodes, or for a callback that nothing else calls.

    :param update: its last
    :param worker_for: see `NodeTrigger`
    """
    verdict = update.decision.verdict
    has_warning = any(result.is_warning for result in update.results)
    return verdict is Verdict.BUILD or verdict.value in worker_for or (WARN in worker_for and has_warning)


_PART: Final = 100


def parts(update: Update) -> Iterator[Update]:
    """Yield an update in parts of at most 100 results; the last one has its decision, and the first where nothing was built."""
    results = update.results
    if len(results) > _PART and _is_of_nothing_built(update):
        yield Update((), update.decision)
    while len(results) > _PART:
        yield Update(results[:_PART], Decision(Verdict.WAIT))
        results = results[_PART:]
    yield Update(results, update.decision)


def write_log(log: Any, update: Update, printed: set[str] | None = None, *, with_reason: bool = True) -> None:
    """
    Write what a sensor's log shows for an update. Of nodes that were not built it says first why.

    :param log: the task's logger
    :param update: what has become known
    :param printed: what has been written before, which is left out now; it is added to
    :param with_reason: whether the decision's reason is written; not where an exception is going to tell it
    """
    printed = set() if printed is None else printed
    lines = []
    for result in update.results:
        lines += finished_lines(result) if result.is_final else [started_line(result)]
    entries = [(log.info, line) for line in lines]
    is_of_nothing_built = _is_of_nothing_built(update)
    if update.decision.reason and (with_reason or is_of_nothing_built):
        write = log.error if update.decision.verdict is Verdict.FAIL else log.info
        reason = (write, f"{_VERB[update.decision.verdict]}: {update.decision.reason}")
        entries = [reason, *entries] if is_of_nothing_built else [*entries, reason]
    for write, text in entries:
        if text not in printed:
            printed.add(text)
            for line in text.splitlines():
                write("%s", line)


def _is_of_nothing_built(update: Update) -> bool:
    """Return whether a sensor ends, and dbt has not built any of its nodes."""
    has_ended = update.decision.verdict in {Verdict.FAIL, Verdict.SKIP}
    return (
        has_ended
        and bool(update.results)
        and all(each.is_skipped or each.was_not_run for each in update.results)
    )


_VERB: Final = {
    Verdict.WAIT: "waiting",
    Verdict.SUCCEED: "succeeded",
    Verdict.FAIL: "failed",
    Verdict.SKIP: "skipped",
    Verdict.BUILD: "building",
}


def decision_payload(decision: Decision) -> dict[str, str]:
    """Return a decision as a dictionary of texts."""
    return {"verdict": decision.verdict.value, "reason": decision.reason}
