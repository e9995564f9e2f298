"""
Which tasks of a group tell Airflow of the nodes that were built.

Sensors do, each as soon as its node is built, where that costs nothing or is wished; else the tasks that run dbt do, at their ends,
and behind each producer a task for the case that it fails. An isolated node's own task tells of it in either case.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import TriggerRule

from dbt_watch.airflow.dag_authoring import connect, declare_aliases
from dbt_watch.core.assets import TrackedAssets
from dbt_watch.rendering.task_ids import report_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import BaseOperator, TaskGroup

    from dbt_watch.producers.asset_report import DbtAssetReport
    from dbt_watch.rendering.plan import PlannedTask
    from dbt_watch.rendering.split import PlannedPart


class ProjectAssets(msgspec.Struct, frozen=True):
    """
    The assets of a project.

    :param tracked: the nodes of whose builds Airflow is told
    :param by_sensors: whether sensors tell
    """

    tracked: TrackedAssets
    by_sensors: bool


class AssetTasks:
    """
    What the tasks of one group tell.

    :param group: the task group
    :param assets: those of the project; None when nothing is told
    :param arguments: where the reports on failed runs run, as arguments of them
    """

    def __init__(self, group: TaskGroup, assets: ProjectAssets | None, arguments: Mapping[str, Any]) -> None:
        self._group = group
        self._assets = assets
        self._arguments = arguments
        self._reports: dict[str, DbtAssetReport] = {}

    def of_sensor(self, planned: PlannedTask) -> dict[str, Any]:
        """Return the arguments of a sensor."""
        if self._assets is None:
            return {}
        tracked = self._assets.tracked.only(planned.unique_ids)
        return {} if tracked is None else {"assets": tracked, "tells_assets": self._assets.by_sensors}

    def settle(self, operator: Any, part: PlannedPart) -> None:
        """
        Have the task that runs dbt for a part tell what it has to.

        :param operator: the task
        :param part: the part
        """
        operator.assets = None if self._assets is None else self._told_at_the_end(part)
        if operator.assets is not None:
            declare_aliases(operator, operator.assets.aliases)

    def _told_at_the_end(self, part: PlannedPart) -> TrackedAssets | None:
        if self._assets is None or (part.home is None and self._assets.by_sensors):
            return None
        return self._assets.tracked.only(part.nodes)

    def has_report(self, part: PlannedPart) -> bool:
        """Return whether a task behind the producer of a part tells what it has built when it fails."""
        return part.home is None and self._told_at_the_end(part) is not None

    def add_report(
        self, part: PlannedPart, watched: Mapping[str, Sequence[str]], producer: BaseOperator | None
    ) -> None:
        """
        Put that task behind a producer, or change what it tells if it is there.

        :param part: the part
        :param watched: see `DbtTaskMixin`
        :param producer: the producer; None on a worker, where it is not made
        """
        tracked = self._told_at_the_end(part)
        if tracked is None:
            return
        # Not for a worker that runs a sensor.
        from dbt_watch.airflow.asset_events import make_known  # noqa: PLC0415
        from dbt_watch.producers.asset_report import DbtAssetReport  # noqa: PLC0415

        report = self._reports.get(part.task_id)
        if report is None:
            report = self._reports[part.task_id] = DbtAssetReport(
                task_id=report_id(part.task_id),
                task_group=self._group,
                dag=self._group.dag,
                producer_task_id=self._group.child_id(part.task_id),
                retries=2,
                retry_delay=timedelta(seconds=10),
                on_execute_callback=None,
                on_success_callback=None,
                on_skipped_callback=None,
                **self._arguments,
            )
            # A teardown, so that the DAG run still fails with the producer. It does not run where that has ended well.
            report.as_teardown()
            report.trigger_rule = TriggerRule.ALL_FAILED
        report.assets, report.watched = tracked, watched
        declare_aliases(report, tracked.aliases)
        make_known(report, tracked)
        if producer is not None:
            connect(producer, report)
