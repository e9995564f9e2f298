"""
How the task ends that runs dbt: as dbt has ended, or, where it stands for an isolated node, as the node has.

`producers.task_end` asks.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbt_watch.airflow.compat import AirflowFailException, AirflowSkipException
from dbt_watch.airflow.task_instances import will_retry
from dbt_watch.core.outcome import Producer, Verdict, decide
from dbt_watch.core.task_states import FAILED, SUCCESS
from dbt_watch.core.xcom_values import xcom_value
from dbt_watch.producers.retry_state import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context

    from dbt_watch.core.journal.format import Closed
    from dbt_watch.core.results import NodeResult

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How dbt has ended.

    :param closed: its exit code, and why
    :param error: what the task fails with, if that is bad
    :param entries: what is known of the nodes, as far as it is asked for
    :param was_held_back: whether it is bad only because of what came before
    """

    closed: Closed
    error: Exception
    entries: Mapping[str, NodeResult]
    was_held_back: bool

    @property
    def is_bad(self) -> bool:
        """Whether something was not built that should have been."""
        return self.closed.exit_code != 0

    @property
    def failure(self) -> Exception:
        """What the task fails with. Of what was held back another attempt would build no more."""
        return AirflowFailException(self.closed.reason) if self.was_held_back else self.error


def end_of_node(
    context: Context,
    ending: Ending,
    stands_for: Sequence[str],
    on_warning: Sequence[Callable[[Context], object]],
) -> Any:
    """
    Return the results of an isolated node as a sensor would leave them.

    :param context: of the task
    :param ending: how dbt has ended
    :param stands_for: the unique_ids whose task it is
    :param on_warning: what is called when one of them ended with a warning
    :raises Exception: what the task ends with, if the node has not ended well, or another attempt is to build the rest
    """
    found = [entry for unique_id in stands_for if (entry := ending.entries.get(unique_id)) is not None]
    if ending.is_bad and not ending.was_held_back and will_retry(context["ti"]):
        # A test has failed, perhaps: then the node need not be built again.
        Memory(context).remember_built([entry for entry in found if entry.is_success or entry.is_warning])
        raise ending.failure from None
    # As a sensor leaves them, whatever `do_xcom_push` says of a sidecar's value, and before any callback is called.
    value = xcom_value(found)
    context["ti"].xcom_push(key="return_value", value=value)
    if any(entry.is_warning for entry in found):
        for callback in on_warning:
            _call(callback, context)
    producer = Producer(FAILED if ending.is_bad else SUCCESS, ending.closed)
    decision = decide(producer, [(unique_id, ending.entries.get(unique_id)) for unique_id in stands_for])
    if decision.verdict is Verdict.SUCCEED:
        return value
    if decision.verdict is Verdict.SKIP:
        raise AirflowSkipException(decision.reason)
    raise (ending.failure if ending.is_bad else AirflowFailException(decision.reason)) from None


def _call(callback: Callable[[Context], object], context: Context) -> None:
    try:
        callback(context)
    except Exception:
        log.exception("The callback %s failed", getattr(callback, "__name__", callback))
