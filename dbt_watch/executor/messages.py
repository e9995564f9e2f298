"""
What the scheduler's part and the watching process say to each other: one JSON value a line, over one socket.

The scheduler's part knows each task until a report says that it need not. What the process knows can be lost at any time.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from dbt_watch.core.assets import TrackedAssets

UNIX_NAME: Final = "dbt_watch"
"""By whom Airflow sees these tasks run; a worker has the name of a user there."""


class Watch(msgspec.Struct, frozen=True, kw_only=True, tag="watch"):
    """
    An order: see a sensor to its end.

    :param id: of its task instance, new with each try; and so for the next five
    :param producer_task_id: see `DbtNodeSensor`, and so for the next three
    :param tells_failures: whether somebody wants to be called when it fails
    :param log_path: where its log is, below Airflow's folder for logs
    :param pid: of the process that runs it for Airflow: the scheduler
    :param hostname: the machine of that process; empty for this one
    :param has_begun: whether Airflow has been told that it runs
    :param task_instance: all that Airflow says of it, for those who keep its log
    :param assets: the nodes of whose builds Airflow is told with the end of it
    """

    id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int
    producer_task_id: str
    unique_ids: tuple[str, ...]
    worker_for: tuple[str, ...] = ()
    turn: int = 0
    tells_failures: bool = False
    log_path: str | None = None
    pid: int
    hostname: str = ""
    has_begun: bool = False
    task_instance: dict[str, Any] = {}
    assets: TrackedAssets | None = None


class Told(msgspec.Struct, frozen=True, tag="told"):
    """An order: go on with a task about whose failure somebody was told."""

    id: str


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """A report: a task runs, for Airflow, and needs heartbeats from now on."""

    id: str


class Failing(msgspec.Struct, frozen=True, tag="failing"):
    """A report: a task is about to fail; `Told` is waited for."""

    id: str
    reason: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A report: a task has ended, and Airflow knows."""

    id: str


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """A report: Airflow does not want a task to go on, as when a person has cleared it."""

    id: str
    had_begun: bool


class NeedsWorker(msgspec.Struct, frozen=True, tag="needs worker"):
    """A report: a task that is still queued has to go on on a worker."""

    id: str


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """A report: the process does its work."""


Order = Watch | Told
Report = Begun | Failing | Ended | Gone | NeedsWorker | Alive

_orders: Final = msgspec.json.Decoder(Order)
_reports: Final = msgspec.json.Decoder(Report)


def encoded(message: Order | Report) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def order_in(line: bytes) -> Order:
    """
    Return the order in a line.

    :raises msgspec.ValidationError: when it is something else
    """
    return cast("Order", _orders.decode(line))


def report_in(line: bytes) -> Report:
    """
    Return the report in a line.

    :raises msgspec.ValidationError: when it is something else
    """
    return cast("Report", _reports.decode(line))
