"""
OpenLineage's events of a build: whether there are any, what they are made of, and who sends them.

`producers.dbt_task` asks on a worker, `producers.dbt_trigger` in a triggerer. Where Airflow's OpenLineage provider is not installed,
nothing is read and nothing is imported. No failure here has a build fail, or wait.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec
from airflow.sdk import Connection

from dbt_watch.airflow import openlineage
from dbt_watch.airflow.secrets import redact
from dbt_watch.core.manifest.location import place_of
from dbt_watch.core.text import one_line
from dbt_watch.exceptions import ManifestError
from dbt_watch.lineage.facts import project_facts
from dbt_watch.lineage.happenings import LineageListener, NodeEnded
from dbt_watch.lineage.naming import namespace_by_adapter, namespace_of
from dbt_watch.lineage.plan import LineagePlan, ParentRun, pack_plan, unpack_plan
from dbt_watch.lineage.sender import EventSender

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from airflow.sdk import Context

    from dbt_watch.core.log.end_of_run import DbtRun
    from dbt_watch.core.log.queries import Queries
    from dbt_watch.core.results import NodeResult
    from dbt_watch.lineage.happenings import Happening
    from dbt_watch.lineage.settings import DbtLineage, LineageSource

log = logging.getLogger(__name__)

SENT_WITHIN: Final = 60.0
"""For how many seconds a triggerer goes on to send after a build has ended."""
_FLUSHED_WITHIN: Final = 5.0
_MAX_CHARS: Final = 500


def lineage_plan(
    source: LineageSource | None, context: Context, nodes: Collection[str]
) -> LineagePlan | None:
    """
    Return what the events of an attempt are made of; None where there are none.

    For a worker's own thread, since it may ask Airflow for a connection.

    :param source: of the project; None where it wants no events
    :param context: of the task that runs dbt
    :param nodes: what it builds
    """
    if source is None or not nodes or not openlineage.is_installed():
        return None
    try:
        if not openlineage.is_wanted(context["task"]):
            return None
        run = ParentRun(**openlineage.task_run(context))
        facts = project_facts(
            place_of(source.manifest, argument="manifest").read(), nodes, _catalog_beside(source.manifest)
        )
        return LineagePlan(run, _namespace(source.settings, facts.adapter), facts)
    except Exception as error:  # noqa: BLE001 - the build goes on without lineage
        log.warning("OpenLineage cannot be used, so no events of this build are sent: %s", _words_of(error))
        return None


class BuildLineage:
    """
    The events of one attempt, from the log to the transport: a `BuildListener`.

    :param plan: what they are made of
    :param is_worker: whether this is a worker, where only the task's own thread may ask Airflow for something; a triggerer's
        own thread must not wait
    """

    def __init__(self, plan: LineagePlan, *, is_worker: bool) -> None:
        self._plan = plan
        self._is_worker = is_worker
        self._client: Any = None
        self._error: Exception | None = None
        self._sender = EventSender(self._open)
        self._listener: LineageListener | None = LineageListener(self._tell, left_out=plan.facts.ephemeral)

    @classmethod
    def packed(cls, text: str) -> BuildLineage | None:
        """Return the events of an attempt that a worker has handed over; None where there are none."""
        try:
            return cls(unpack_plan(text), is_worker=False) if text else None
        except Exception as error:  # noqa: BLE001 - as in `lineage_plan`
            log.warning("No more OpenLineage events are sent for this build: %s", _words_of(error))
            return None

    def take(self, changes: Iterable[NodeResult], run: DbtRun, queries: Queries) -> None:
        """Take the changes that some lines of the log have brought."""
        if self._listener is not None:
            self._guarded(functools.partial(self._listener.take, changes, run, queries))

    def end(self, exit_code: int | None, reason: str | None, run: DbtRun, queries: Queries) -> None:
        """Take the end of dbt."""
        if self._listener is not None:
            self._guarded(functools.partial(self._listener.end, exit_code, reason, run, queries))

    def close(self) -> None:
        """Say that nothing more comes. A worker waits for a while until all is sent, for it ends then; a triggerer does not."""
        self._guarded(self._close)

    def _close(self) -> None:
        within = openlineage.patience() if self._is_worker else SENT_WITHIN
        self._sender.close(within, wait=self._is_worker)

    def _guarded(self, do: Callable[[], None]) -> None:
        """Do something that belongs to lineage alone; when it fails, the build goes on without."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 - as in `lineage_plan`
            self._listener = None
            log.warning("No more OpenLineage events are sent for this build: %s", _words_of(error))

    def _tell(self, happening: Happening) -> None:
        if self._is_worker and self._client is None and self._error is None:
            try:
                self._client = openlineage.make_client()
            except Exception as error:  # noqa: BLE001 - the sender's thread says so
                self._error = error
        self._sender.put(happening)

    def _open(self) -> _Client:
        if self._error is not None:
            raise self._error
        return _Client(self._plan, self._client or openlineage.make_client())


class _Client:
    """Makes events and sends them by OpenLineage's client, in the thread of a sender."""

    def __init__(self, plan: LineagePlan, client: Any) -> None:
        from dbt_watch.lineage.events import LineageEvents  # noqa: PLC0415 - it imports OpenLineage

        self._events = LineageEvents(plan)
        self._client = client

    def send(self, happening: Happening) -> None:
        if isinstance(happening, NodeEnded) and happening.sql is not None:
            happening = msgspec.structs.replace(happening, sql=str(redact(happening.sql)))
        self._client.emit(self._events.of(happening))

    def close(self) -> None:
        # Some transports have a queue of their own.
        self._client.close(_FLUSHED_WITHIN)


def packed_plan(plan: LineagePlan | None) -> str:
    """Return a plan for a trigger; empty where there is none."""
    return "" if plan is None else pack_plan(plan)


def _namespace(settings: DbtLineage, adapter: str) -> str:
    if settings.namespace is not None:
        return settings.namespace
    known = None if settings.conn_id is None else namespace_of(adapter, _connection(settings.conn_id))
    if known is not None:
        return known
    namespace = namespace_by_adapter(adapter)
    if namespace != namespace_of(adapter, {}):
        asked = (
            f", and the connection {settings.conn_id} does not contain it either" if settings.conn_id else ""
        )
        log.info(
            "OpenLineage: the datasets of this project are in the namespace %r, since the manifest does not contain the"
            " address of the database%s. Set the namespace with `lineage=DbtLineage(namespace=...)`.",
            namespace,
            asked,
        )
    return namespace


def _connection(conn_id: str) -> Mapping[str, Any]:
    """Return the fields of a connection of Airflow by their names in dbt's profiles."""
    connection = Connection.get(conn_id)
    extra = connection.extra_dejson
    host = connection.host or None
    return {
        **extra,
        "host": host,
        "server": host,
        "software_host": host,
        "path": host,
        "port": connection.port,
        "account": extra.get("account") or host,
        "region_name": extra.get("region_name") or extra.get("region"),
    }


def _catalog_beside(manifest: str) -> bytes | None:
    """Return the content of the catalog.json in the directory of a manifest; None when there is none."""
    directory, _, name = manifest.replace("\\", "/").rpartition("/")
    if name != "manifest.json":
        return None
    try:
        return place_of(
            f"{directory}/catalog.json" if directory else "catalog.json", argument="catalog"
        ).read()
    except ManifestError:
        return None


def _words_of(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", _MAX_CHARS)
