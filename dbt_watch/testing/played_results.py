"""How the nodes of a `FakeDbt` end, and what its log and its artifacts say of that. Used by `player` and `node_run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.testing.batches import PlayedBatch, batch_results, fail_batches, summary_of
from dbt_watch.testing.log_lines import described, schema_of
from dbt_watch.testing.run_order import TESTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.core.manifest.graph import Node
    from dbt_watch.testing.script import Act

NO_OPS: Final = frozenset({"exposure", "saved_query"})
"""The resource types of which dbt runs nothing."""
RESULT_EVENTS: Final = {
    "function": "LogFunctionResult",
    "model": "LogModelResult",
    "seed": "LogSeedResult",
    "snapshot": "LogSnapshotResult",
    "source": "LogFreshnessResult",
    "test": "LogTestResult",
    "unit_test": "LogTestResult",
}
"""The event that tells of a result, by the type of the node."""
FAILED: Final = frozenset({"error", "fail", "partial success"})
"""What fails a command."""
BLOCKING: Final = FAILED | {"skipped"}
"""What holds back the nodes that wait for it."""


@dataclass
class Result:
    """
    How one node ended.

    :ivar error: what the database said of batches that failed
    :ivar batches: of a microbatch model
    """

    node: Node
    status: str
    message: str = ""
    error: str = ""
    batches: list[PlayedBatch] = field(default_factory=list)
    failures: int | None = None
    rows: int | None = None
    began: str = ""
    over: str = ""
    seconds: float = 0.0
    thread: str = ""

    @property
    def response(self) -> dict[str, Any]:
        """What the database answered."""
        if self.status in BLOCKING or self.status == "no-op" or self.batches:
            return {}
        if self.rows is None:
            return {"_message": "OK"}
        return {"_message": f"INSERT {self.rows}", "code": "INSERT", "rows_affected": self.rows}

    @property
    def description(self) -> str:
        """How dbt calls its node in a line of the log."""
        return described(self.node, is_microbatch=bool(self.batches))

    def run_result(self) -> dict[str, Any]:
        """Return it as an event of the log has it."""
        return {
            "adapter_response": self.response,
            "execution_time": self.seconds,
            "message": self.message,
            "num_failures": self.failures or 0,
            "status": self.status,
            "thread": self.thread,
            "timing_info": [
                {"name": "execute", "started_at": f"{self.began}Z", "completed_at": f"{self.over}Z"}
            ],
        }

    def artifact(self) -> dict[str, Any]:
        """Return it as run_results.json has it."""
        timing = [{"name": "execute", "started_at": f"{self.began}Z", "completed_at": f"{self.over}Z"}]
        return {
            "status": self.status,
            "timing": timing if self.over else [],
            "thread_id": self.thread,
            "execution_time": self.seconds,
            "adapter_response": self.response,
            "message": self.message or None,
            "failures": self.failures,
            "unique_id": self.node.unique_id,
            "compiled": True,
            "compiled_code": "select 1",
            "relation_name": self.node.relation_name,
            "batch_results": batch_results(self.batches),
        }

    def source(self) -> dict[str, Any]:
        """Return it as sources.json has it."""
        return {
            "unique_id": self.node.unique_id,
            "status": self.status,
            "max_loaded_at": f"{self.over}Z",
            "snapshotted_at": f"{self.over}Z",
            "max_loaded_at_time_ago_in_s": 0.0,
            "adapter_response": {},
            "timing": [],
            "thread_id": self.thread,
            "execution_time": self.seconds,
        }


def result_of(node: Node, act: Act, batches: list[PlayedBatch]) -> Result:
    """
    Return how a node will end.

    :param batches: those of the run, of a microbatch model
    """
    if batches:
        status = fail_batches(batches, act.batches if act.ending == "error" else ())
        error = act.message or "scripted to fail"
        return Result(node, status, message=summary_of(batches), error=error, batches=batches)
    kind, tests = node.resource_type, node.resource_type in TESTS
    if kind in NO_OPS:
        return Result(node, "no-op", message="NO-OP")
    if act.ending == "error":
        default = "Got 1 result, configured to fail if != 0" if tests else "scripted to fail"
        text = act.message or default
        return Result(node, "fail" if tests else "error", message=text, failures=1 if tests else None)
    if act.ending == "warn":
        text = act.message or "Got 1 result, configured to warn if != 0"
        return Result(node, "warn", message=text, failures=1 if tests else None)
    if tests or kind == "source":
        return Result(node, "pass", failures=0 if tests else None)
    message = "OK" if act.rows is None else f"INSERT {act.rows}"
    return Result(node, "success", message=message, rows=act.rows)


def result_data(result: Result, total: int) -> dict[str, Any]:
    """Return the fields of the event that tells of a result, which differ by the type of the node."""
    node, status = result.node, result.status
    if node.resource_type in TESTS:
        return {
            "attached_node": node.attached_node or "",
            "name": node.name,
            "num_failures": result.failures or 0,
            "num_models": total,
            "status": status,
        }
    if node.resource_type == "source":
        return {"source_name": node.source_name, "table_name": node.name, "status": status, "total": total}
    if node.resource_type == "seed":
        return {
            "relation": node.name,
            "result_message": result.message,
            "schema": schema_of(node),
            "status": status,
            "total": total,
        }
    word = "OK" if status == "success" else status
    if result.batches and status != "error":
        word = result.message
    return {"description": result.description, "status": word, "total": total}


def counts_of(results: Sequence[Result]) -> dict[str, int]:
    """Return how many nodes ended in which way, as dbt counts them at its end."""
    words = {"pass": {"success", "pass"}, "warn": {"warn"}, "error": FAILED, "skip": {"skipped"}}
    counts = {name: sum(result.status in statuses for result in results) for name, statuses in words.items()}
    counts["no-op"] = sum(result.status == "no-op" for result in results)
    return {**counts, "total": len(results)}
