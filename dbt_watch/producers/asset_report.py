"""
Tells Airflow of all that was built at once, when dbt has ended: the task that runs dbt does so if it ends well, and else the task behind it.

No sensor then needs a worker for it. A task that fails tells Airflow nothing, so what a failed run has built is told by `DbtAssetReport`,
which runs only then.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from dbt_watch.airflow.asset_events import tell, tell_only_aliases, untold
from dbt_watch.airflow.compat import AirflowSkipException
from dbt_watch.airflow.supervisor import patiently, read_xcom_now
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.xcom_values import results_in
from dbt_watch.producers.journal_store import stored_journal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow.sdk import Context

    from dbt_watch.core.assets import TrackedAssets
    from dbt_watch.core.results import NodeResult

log = logging.getLogger(__name__)


def report_builds(
    context: Context,
    assets: TrackedAssets,
    results: Iterable[NodeResult],
    attempt: int,
    watched: Mapping[str, Sequence[str]],
    *,
    is_new: bool = True,
) -> int:
    """
    Have Airflow told of builds that it has not been told of; return how many they are.

    What this attempt has built has been told by nobody. Of what earlier ones have built, which is in their sensors' XComs, Airflow is
    asked first.

    :param context: of the task that runs here
    :param assets: the nodes that matter
    :param results: what the journal tells
    :param attempt: the attempt that wrote it
    :param watched: the unique_ids that each sensor stands for, by its task id
    :param is_new: whether nobody can have told of this attempt before
    """
    results = list(results)
    new = [result for result in results if is_new and result.attempt == attempt]
    others = [result for result in results if not (is_new and result.attempt == attempt)]
    if attempt > 1:
        others += _left_by_sensors(context, assets, {result.unique_id for result in results}, watched)
    events = [*assets.events(new), *untold(context, assets.events(others))]
    tell(context, events)
    if events:
        log.info("Sending asset events for the builds of %d nodes", len(events))
    return len(events)


def _left_by_sensors(
    context: Context, assets: TrackedAssets, known: Collection[str], watched: Mapping[str, Sequence[str]]
) -> list[NodeResult]:
    """Return what the sensors of nodes tell that the journal of this attempt does not: of these an earlier one was the last."""
    found: list[NodeResult] = []
    for task_id, unique_ids in watched.items():
        if any(name in assets.relations and name not in known for name in unique_ids):
            found += _left_by(context["ti"], task_id)
    return [result for result in found if result.unique_id not in known]


def _left_by(task_instance: Any, task_id: str) -> list[NodeResult]:
    try:
        return results_in(patiently(lambda: read_xcom_now(key_of(task_instance, task_id), "return_value")))
    except Exception as error:  # noqa: BLE001 - the build has ended as it has, whatever is told of it
        log.warning("The results of %s cannot be read: %s", task_id, error)
        return []


class DbtAssetReport(BaseOperator):
    """
    Tells Airflow what a run of dbt has built that ended badly.

    `rendering.group` puts one behind each producer, as a teardown: whether the DAG run has failed is for the producer to say.

    :param producer_task_id: the task that runs dbt

    What `rendering.group` sets as well, since it may change while a DAG file is parsed:

    :ivar assets: the nodes that the producer builds of whose builds Airflow is told
    :ivar watched: the unique_ids that each of its sensors stands for, by task id
    """

    shallow_copy_attrs = ("assets", "watched")
    ui_color = "#ff694a"

    def __init__(self, *, producer_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.producer_task_id = producer_task_id
        self.assets: TrackedAssets | None = None
        self.watched: Mapping[str, Sequence[str]] = {}
        self.custom_operator_name = "dbt assets"

    def execute(self, context: Context) -> int:
        """
        Tell it; return of how many nodes.

        :raises AirflowSkipException: when there is nothing to tell
        """
        ti = context["ti"]
        tell_only_aliases(ti.task)
        state = patiently(lambda: stored_journal(key_of(ti, self.producer_task_id)))
        count = 0
        if self.assets is not None:
            count = report_builds(
                context,
                self.assets,
                state.entries.values(),
                state.attempt,
                self.watched,
                is_new=ti.try_number == 1,
            )
        if not count:
            raise AirflowSkipException("no asset events left to send: dbt built nothing new")
        return count
