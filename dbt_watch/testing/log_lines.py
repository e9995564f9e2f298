"""
The lines that dbt writes, as records or as text: `LogWriter`. `player` calls it.

Names, codes and fields are those of dbt-core 1.11, from recordings; see the tests, which compare the two.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from dbt_watch.core.manifest.graph import Node

_CODES: Final = {
    "AdapterRegistered": "E034",
    "BuildingCatalog": "E044",
    "CatalogWritten": "E042",
    "CatchableExceptionOnRun": "W002",
    "CommandCompleted": "Q039",
    "CompiledNode": "Q042",
    "ConcurrencyLine": "Q027",
    "EndOfRunSummary": "Z030",
    "FinishedRunningStats": "E047",
    "FoundStats": "W006",
    "FreshnessCheckComplete": "Q003",
    "GenericExceptionOnRun": "W004",
    "JinjaLogInfo": "I062",
    "LogBatchResult": "Q046",
    "LogFreshnessResult": "Q018",
    "LogFunctionResult": "Q047",
    "LogModelResult": "Q012",
    "LogNodeNoOpResult": "Q019",
    "LogSeedResult": "Q016",
    "LogSnapshotResult": "Q015",
    "LogStartBatch": "Q045",
    "LogStartLine": "Q011",
    "LogTestResult": "Q007",
    "MainEncounteredError": "Z002",
    "MainReportVersion": "A001",
    "MarkSkippedChildren": "Z033",
    "NodeExecuting": "Q031",
    "NodeFinished": "Q025",
    "NodeStart": "Q024",
    "NoNodesSelected": "Q038",
    "NothingToDo": "Q035",
    "PrintEvent": "Z052",
    "RunResultError": "Z024",
    "RunResultFailure": "Z022",
    "RunResultWarning": "Z021",
    "RunResultWarningMessage": "Z046",
    "RunningOperationCaughtError": "Q001",
    "ShowNode": "Q041",
    "SkippingDetails": "Q034",
    "StatsLine": "Z023",
}
_LEVELS: Final = ("debug", "info", "warn", "error", "none")
_WIDTH: Final = 80


def now() -> datetime:
    """Return the present."""
    return datetime.now(timezone.utc)


def written(moment: datetime) -> str:
    """Return a time as dbt writes it, always with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


class LogWriter:
    """
    Writes what one command has to say.

    :param out: where to
    :param invocation_id: of the command
    :param as_json: whether each line is a record
    :param level: of the least that is written
    """

    def __init__(self, out: TextIO, invocation_id: str, *, as_json: bool, level: str) -> None:
        self._out = out
        self._invocation_id = invocation_id
        self._as_json = as_json
        self._level = _LEVELS.index(level) if level in _LEVELS else 1

    def text(self, line: str) -> None:
        """Write a line that is no record, as `print` in a Python model does."""
        self._out.write(f"{line}\n")
        self._out.flush()

    def raw(self, text: str) -> None:
        """Write what was written before."""
        self._out.write(text)
        self._out.flush()

    def event(
        self, name: str, level: str, message: str, data: Mapping[str, Any], *, thread: str = "MainThread"
    ) -> None:
        """Write an event, if its level is among those that are wanted."""
        if _LEVELS.index(level) < self._level:
            return
        moment = now()
        if not self._as_json:
            self.text(f"{moment:%H:%M:%S}  {message}")
            return
        info = {
            "category": "",
            "code": _CODES[name],
            "extra": {},
            "invocation_id": self._invocation_id,
            "level": level,
            "msg": message,
            "name": name,
            "pid": os.getpid(),
            "thread": thread,
            "ts": f"{written(moment)}Z",
        }
        self.text(json.dumps({"data": data, "info": info}))


def node_info(node: Node, status: str, *, began: str = "", over: str = "") -> dict[str, Any]:
    """Return what an event says of its node."""
    relation = node.relation_name or ""
    parts = [part.strip('"`[]') for part in relation.split(".")]
    return {
        "materialized": node.materialized or "",
        "meta": {},
        "node_checksum": "",
        "node_finished_at": over,
        "node_name": node.name,
        "node_path": node.path.partition("/")[2] or node.path,
        "node_relation": {
            "alias": node.name,
            "database": parts[0] if len(parts) > 2 else "",  # noqa: PLR2004 - database, schema and name
            "relation_name": relation,
            "schema": schema_of(node),
        },
        "node_started_at": began,
        "node_status": status,
        "resource_type": node.resource_type,
        "unique_id": node.unique_id,
    }


def schema_of(node: Node) -> str:
    """Return the schema of a node in the database; `main` where the manifest does not tell."""
    parts = [part.strip('"`[]') for part in (node.relation_name or "").split(".")]
    return parts[-2] if len(parts) > 1 else "main"


def described(node: Node, *, is_microbatch: bool = False) -> str:
    """Return how dbt calls a node in a line of the log."""
    if node.resource_type == "model":
        kind = "microbatch" if is_microbatch else node.materialized or "view"
        return f"sql {kind} model {schema_of(node)}.{node.name}"
    if node.resource_type == "seed":
        return f"seed file {schema_of(node)}.{node.name}"
    if node.resource_type == "snapshot":
        return f"snapshot {schema_of(node)}.{node.name}"
    if node.resource_type == "source":
        return f"freshness of {node.source_name}.{node.name}"
    return f"{node.resource_type} {node.name}"


def dotted(text: str, end: str) -> str:
    """Return a line with its end in brackets, filled up with dots as dbt does."""
    return f"{f'{text} '.ljust(_WIDTH, '.')} [{end}]"
