"""
What an attempt of a task that runs dbt does: build all, build what is not done, or take over what builds it already.

`producers.pods.operator` and `producers.api.operator` ask before each attempt but the first, and say what earlier attempts have left:
`EarlierRuns`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from dbt_watch.airflow.compat import AirflowFailException
from dbt_watch.airflow.secrets import redact
from dbt_watch.airflow.supervisor import patiently, read_states_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.resume import deaf_tasks, remaining_nodes, selection_of
from dbt_watch.core.selection.gaps import selected_nodes
from dbt_watch.core.selection.left_to_dbt import is_left_to_dbt, rest_left_to_dbt
from dbt_watch.core.selection.source_freshness import is_source
from dbt_watch.core.task_states import RUNNING, SUCCESS
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.waiting import await_ends

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbt_watch.core.command import Selection
    from dbt_watch.core.results import NodeResult
    from dbt_watch.producers.attempt import Attempt

log = logging.getLogger(__name__)

# In seconds. With the executor, a task of a node may also run because a dbt before the clear had begun its node.
LONE_ENDS_WITHIN: Final = 5.0
LONE_POLL: Final = 0.5

Run = TypeVar("Run")


@dataclass(frozen=True, slots=True)
class AttemptPlan(Generic[Run]):
    """
    What an attempt does.

    :param nodes: the nodes that it builds
    :param selection: how dbt is asked for them
    :param follows: the run of dbt of an earlier attempt that builds them already
    :param adopted: what an earlier run has built, for the journal to tell
    """

    nodes: frozenset[str]
    selection: Selection
    follows: Run | None = None
    adopted: Sequence[NodeResult] = ()


class EarlierRuns(Protocol[Run]):
    """
    The runs of dbt that earlier attempts of a task have left, in pods or on a server.

    :ivar running: the one that goes on, or is about to begin, and may be taken over
    :ivar ended: the one that has ended, when nobody has looked at its end
    """

    running: Run | None
    ended: Run | None

    def clear_away(self, *, everything: bool = False) -> None:
        """
        Stop what must not run on, and wait for its end.

        :param everything: what could be followed as well, since nothing is to be built
        :raises TimeoutError: when it does not end
        """

    def words(self, run: Run) -> str:
        """Return what to call a run: "pod dbt-x of attempt 1"."""

    def exit_code(self, run: Run) -> int | None:
        """Return that of one that has ended; None when it is not known."""

    def end_words(self, run: Run) -> str:
        """Return how one has ended, in words."""

    def read(self, run: Run, watch: BuildWatch) -> None:
        """Read the log of one that has ended, to its end."""

    def put_aside(self, run: Run) -> None:
        """See to it that one that has ended is not found again."""


class RetryPlanner(Generic[Run]):
    """
    Makes the plan of an attempt that is not the first.

    :param operator: the task that runs dbt
    :param attempt: the attempt
    :param whole: the plan of a first attempt
    :param earlier: what earlier attempts have left
    :param max_bytes: how long a selection may be; by default, as long as it may be at all
    """

    def __init__(
        self,
        operator: Any,
        attempt: Attempt,
        whole: AttemptPlan[Run],
        earlier: EarlierRuns[Run],
        *,
        max_bytes: int | None = None,
    ) -> None:
        self._operator = operator
        self._whole = whole
        self._attempt = attempt
        self._earlier = earlier
        self._max_bytes = max_bytes

    def plan(self) -> AttemptPlan[Run] | None:
        """
        Make the plan; whatever must not run beside it has ended then.

        :returns: None when all is done already
        :raises TimeoutError: when an earlier run does not end
        :raises AirflowFailException: when sensors have failed that were not cleared with the producer
        """
        self._earlier.clear_away()
        states = self._states()
        remaining = remaining_nodes(self._whole.nodes, self._operator.watched, states)
        built = self._built(remaining)
        plan = self._of(remaining - {result.unique_id for result in built}, states)
        return plan if plan is None else replace(plan, adopted=(*plan.adopted, *built))

    def _states(self) -> Mapping[str, str | None]:
        """
        Return the states of the tasks of all nodes, which tell what is left to build.

        A task that has built its nodes alone may have done so just now, and run on for a moment. When the producer has been
        cleared after that, these nodes are not all that is to be built.
        """
        attempt, watched = self._attempt, self._operator.watched
        own = key_of(attempt.task_instance)
        states = patiently(lambda: read_states_now(own, watched))
        running = {task for task, state in states.items() if state == RUNNING} - {own.task_id}
        if running and attempt.is_first_since_clear:
            await_ends(own, running, LONE_POLL, attempt.tick, within=LONE_ENDS_WITHIN)
            states = patiently(lambda: read_states_now(own, watched))
        return states

    def _built(self, remaining: frozenset[str]) -> list[NodeResult]:
        """Return what an earlier attempt has built of an isolated node, whose state its own task cannot tell."""
        built = [result for result in self._attempt.memory.built if result.unique_id in remaining]
        return built if len(built) < len(remaining) else []

    def _of(self, remaining: frozenset[str], states: Mapping[str, str | None]) -> AttemptPlan[Run] | None:
        operator, earlier = self._operator, self._earlier
        if self._attempt.is_first_since_clear:
            _refuse_deaf(deaf_tasks(remaining, operator.watched, states), operator.task_id)
        if earlier.running is not None:
            log.info(
                "dbt is still running in %s: following its log from the beginning",
                earlier.words(earlier.running),
            )
            return AttemptPlan(remaining, self._whole.selection, follows=earlier.running)
        if earlier.ended is not None:
            return self._after(earlier.ended, remaining)
        own = self._attempt.task_instance.task_id
        others = [state for task, state in states.items() if task != own]
        is_all_done = bool(others) and all(state == SUCCESS for state in others)
        if is_all_done and self._attempt.memory.is_done:
            log.info("dbt succeeded in an earlier attempt and all tasks are done: nothing is left to build")
            return None
        return self._build(remaining)

    def _after(self, run: Run, remaining: frozenset[str]) -> AttemptPlan[Run]:
        """Go on after a run whose end nobody has looked at."""
        earlier = self._earlier
        words = earlier.words(run)
        if earlier.exit_code(run) == 0:
            log.info("dbt succeeded in %s; reading its log", words)
            return AttemptPlan(remaining, self._whole.selection, follows=run)
        log.info("dbt failed in %s (%s); reading its log", words, earlier.end_words(run))
        adopted = [
            result
            for result in self._read(run, remaining)
            if result.unique_id in remaining and (result.is_success or result.is_warning)
        ]
        earlier.put_aside(run)
        left = remaining - {result.unique_id for result in adopted}
        return replace(self._build(left), adopted=adopted) if left else self._build(remaining)

    def _read(self, run: Run, nodes: frozenset[str]) -> list[NodeResult]:
        operator = self._operator
        watch = BuildWatch(
            selected_nodes(operator.graph, nodes),
            attempt=self._attempt.number,
            show=lambda line: operator.log.info("%s", line),
            redact=redact,
        )
        self._earlier.read(run, watch)
        return watch.results

    def _build(self, nodes: frozenset[str]) -> AttemptPlan[Run]:
        count = len(self._whole.nodes)
        if nodes == self._whole.nodes:
            log.info("Building all %d nodes", count)
            return self._whole
        graph, whole = self._operator.graph, self._whole
        if is_left_to_dbt(whole.selection):
            nodes |= frozenset(filter(is_source, whole.nodes))  # what has newer data is found out again
            selection = rest_left_to_dbt(graph, whole.selection, whole.nodes, nodes)
        else:
            selection = selection_of(graph, nodes)
        if selection is None or self._is_too_long(selection):
            log.info("Building all %d nodes: no selection matches just the nodes that are left", count)
            return self._whole
        log.info("Building the %d of %d nodes that are not done", len(nodes), count)
        return AttemptPlan(nodes, selection)

    def _is_too_long(self, selection: Selection) -> bool:
        words = (*selection.select, *selection.sources)
        return self._max_bytes is not None and sum(len(word.encode()) + 1 for word in words) > self._max_bytes


def _refuse_deaf(tasks: Sequence[str], producer: str) -> None:
    """
    Refuse to build nodes whose tasks would stay red whatever became of them.

    :raises AirflowFailException: naming the tasks, if there are any
    """
    if tasks:
        raise AirflowFailException(
            f"dbt was not started: {named(tasks)} have failed and were not cleared together with {producer}, so they would"
            " stay failed whatever dbt builds. Clear all failed tasks of the run together, or the task group"
        )


MAX_NAMES: Final = 20


def named(tasks: Sequence[str]) -> str:
    """Name tasks, the first 20 of them."""
    more = f" and {len(tasks) - MAX_NAMES} more" if len(tasks) > MAX_NAMES else ""
    return f"{len(tasks)} tasks ({', '.join(tasks[:MAX_NAMES])}{more})"
