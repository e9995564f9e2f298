"""
How Airflow is told that an asset has a new state, on a worker and over the execution API, and what it has been told before.

An event that a task tells is registered when the task ends as a success, and then only; a task that fails tells nothing, and so does one
that a trigger ends (Airflow 3.3).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from dbt_watch.airflow.dag_authoring import declare_aliases
from dbt_watch.airflow.supervisor import patiently, read_events_by_alias_now
from dbt_watch.core.assets import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import BaseOperator, Context

    from dbt_watch.core.assets import AssetEvent, TrackedAssets

log = logging.getLogger(__name__)


def asset_of(uri: str, alias: str) -> Asset:
    """
    Return an asset as Airflow knows it: with the one spelling of its URI that the provider of its scheme gives it.

    :param uri: what it is named by
    :param alias: what it is named by where that provider refuses the URI
    """
    try:
        uri = Asset(uri=uri).uri
    except ValueError as error:
        log.warning("%s is not a valid asset URI: %s", uri, error)
        uri = alias
    return Asset(name=uri, uri=uri)


def make_known(task: BaseOperator, assets: TrackedAssets) -> None:
    """
    Let Airflow know assets before any event of them, as outlets of a task, which drops them before it ends: see `tell_only_aliases`.

    Airflow makes an asset with its first event, where it does not know it. Of two tasks that tell one at the same time, as the
    elements of a mapped project may, it would then refuse one, and fail that task.

    :param task: the task
    :param assets: their names, as the manifest has them
    """
    known = {outlet.uri for outlet in task.outlets if isinstance(outlet, Asset)}
    found = [asset_of(uri, alias) for alias, uri in assets.uris]
    task.outlets = [*task.outlets, *(asset for asset in found if asset.uri not in known)]


def tell_only_aliases(task: BaseOperator) -> None:
    """Have a task that runs here tell nothing of its outlets that are assets, each of which would else have an event when it ends well."""
    task.outlets = [outlet for outlet in task.outlets if isinstance(outlet, AssetAlias)]


def tell(context: Context, events: Iterable[AssetEvent]) -> None:
    """
    Have Airflow told of builds when the task that runs here ends well.

    :param context: of the task
    :param events: the builds
    """
    events = _in_one_order(events)
    declare_aliases(context["ti"].task, [event.alias for event in events])
    for event in events:
        asset = asset_of(event.uri, event.alias)
        context["outlet_events"][AssetAlias(event.alias)].add(asset, extra=event.extra)


def _in_one_order(events: Iterable[AssetEvent]) -> list[AssetEvent]:
    """Return events in the order in which every task tells them: two that lock the same rows in two orders may block each other."""
    return sorted(events, key=lambda event: event.alias)


def as_outlets(events: Iterable[AssetEvent]) -> dict[str, Any]:
    """Return the same as the execution API takes it with the end of a task."""
    outlets, told = [], []
    for event in _in_one_order(events):
        asset = asset_of(event.uri, event.alias)
        outlets.append({"name": event.alias, "type": "AssetAlias"})
        told.append(
            {
                "source_alias_name": event.alias,
                "dest_asset_key": {"name": asset.name, "uri": asset.uri},
                "dest_asset_extra": {},
                "extra": event.extra,
            }
        )
    return {"task_outlets": outlets, "outlet_events": told}


def untold(context: Context, events: Iterable[AssetEvent]) -> list[AssetEvent]:
    """
    Return those of some events that Airflow has not been told of in this DAG run; none of those that it cannot be asked about.

    :param context: of the task that runs here
    :param events: the builds
    """
    ti, run = context["ti"], context["dag_run"]
    left = []
    for event in events:
        try:
            told = patiently(lambda name=event.alias: read_events_by_alias_now(name, run.run_after))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - better not told than told twice
            log.warning(
                "Airflow did not return whether there already is an event for the build of %s: %s",
                event.alias,
                error,
            )
            continue
        known = {
            identity_of(item.extra or {})
            for item in told
            if (item.source_dag_id, item.source_run_id) == (ti.dag_id, ti.run_id)
        }
        if identity_of(event.extra) not in known:
            left.append(event)
    return left
