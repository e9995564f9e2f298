"""
The batches of a microbatch model, as dbt makes them: which ones there are in a run, how they end, and what the log says of them.

`fake_dbt` checks the names of batches, `node_run` plays them, and `player` writes their lines. When the first batch fails, dbt skips
the others. Source: `dbt/materializations/incremental/microbatch.py` and `dbt/task/run.py` of dbt-core 1.11, and recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.exceptions import ArgumentError
from dbt_watch.testing.log_lines import dotted, node_info, schema_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbt_watch.core.manifest.graph import Graph, Node
    from dbt_watch.testing.call import Call
    from dbt_watch.testing.log_lines import LogWriter
    from dbt_watch.testing.played_results import Result

_FORMATS: Final = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
_MONTHS: Final = 12


class _Config(msgspec.Struct):
    incremental_strategy: str | None = None
    batch_size: str | None = None
    begin: str | None = None
    lookback: int | None = None


@dataclass
class PlayedBatch:
    """
    One batch of a run of a model.

    :ivar name: as dbt writes it, such as "2026-01-02" for a day
    :ivar span: from when to when, as an artifact has it
    :ivar status: how it ends
    """

    name: str
    span: tuple[str, str]
    status: str = "success"
    began: str = ""
    over: str = ""
    seconds: float = 0.0


def batch_size_of(graph: Graph, node: Node) -> str | None:
    """Return how long the batches of a model are, such as "day"; None where it has none."""
    config = _config(graph, node)
    is_microbatch = node.materialized == "incremental" and config.incremental_strategy == "microbatch"
    return config.batch_size if is_microbatch and config.batch_size in _FORMATS else None


def check_batches(graph: Graph, node: Node, names: Any) -> tuple[str, ...]:
    """
    Return the names of batches.

    :raises ArgumentError: when the model has no batches, or none could have such a name
    """
    size = batch_size_of(graph, node)
    if size is None:
        raise ArgumentError(
            "batches", names, f"no batches: {node.name} is no microbatch model with a batch_size"
        )
    example = datetime(2026, 1, 31, tzinfo=timezone.utc).strftime(_FORMATS[size])
    wanted = (
        f"a list of batches as dbt names those of a batch_size of a {size}, by their beginning: {example}"
    )
    if isinstance(names, str) or not names:
        raise ArgumentError("batches", names, wanted)
    for name in names:
        if not isinstance(name, str) or not _is_name(name, size):
            raise ArgumentError("batches", name, wanted)
    return tuple(names)


def batches_of(graph: Graph, node: Node, call: Call, now: datetime) -> list[PlayedBatch]:
    """
    Return the batches of a run of a model, of which there is a table already; none where it is no microbatch model.

    :param call: dbt's
    :param now: where the call says no end
    """
    size = batch_size_of(graph, node)
    if size is None:
        return []
    config = _config(graph, node)
    end = _given(call.value("--event-time-end")) or now
    end = end if end == _truncated(end, size) else _moved(end, size, 1)
    start = _given(call.value("--event-time-start"))
    if start is None and call.has("--full-refresh"):
        start = _given(config.begin)
    if start is None:
        # One more, since the end is that of a batch.
        start = _moved(end, size, -1 - (1 if config.lookback is None else config.lookback))
    starts = [_truncated(start, size)]
    while (following := _moved(starts[-1], size, 1)) < end:
        starts.append(following)
    return [
        PlayedBatch(begin.strftime(_FORMATS[size]), (begin.isoformat(), over.isoformat()))
        for begin, over in zip(starts, [*starts[1:], end], strict=True)
    ]


def fail_batches(batches: Sequence[PlayedBatch], names: Sequence[str] | None) -> str:
    """
    Set how batches end of which some fail, and return how their model does.

    :param names: those that fail; None for all
    """
    for number, batch in enumerate(batches):
        if number and batches[0].status == "error":
            batch.status = "skipped"
        elif names is None or batch.name in names:
            batch.status = "error"
    well = sum(batch.status == "success" for batch in batches)
    return "success" if well == len(batches) else "partial success" if well else "error"


def summary_of(batches: Sequence[PlayedBatch]) -> str:
    """Return what dbt says of a model whose batches are over."""
    well = sum(batch.status == "success" for batch in batches)
    if well in {0, len(batches)}:
        return "SUCCESS" if well else "ERROR"
    return f"PARTIAL SUCCESS ({well}/{len(batches)})"


def batch_results(batches: Sequence[PlayedBatch]) -> dict[str, Any] | None:
    """Return how batches ended as run_results.json has it."""
    if not batches:
        return None
    return {
        "successful": [batch.span for batch in batches if batch.status == "success"],
        "failed": [batch.span for batch in batches if batch.status != "success"],
    }


def say_start(log: LogWriter, result: Result, index: int) -> None:
    """Log that a batch begins; of one that is skipped, only the end is logged."""
    node, batch = result.node, result.batches[index - 1]
    data: dict[str, Any] = {"node_info": node_info(node, "started", began=batch.began)}
    message = f"Began running node {node.unique_id}"
    log.event("NodeStart", "debug", message, data, thread=result.thread)
    if batch.status == "skipped":
        return
    message, told = _told(result, index, "START", "RUN")
    log.event("LogStartBatch", "info", message, told | data, thread=result.thread)
    data = {"node_info": node_info(node, "executing", began=batch.began)}
    message = f"Began executing node {node.unique_id}"
    log.event("NodeExecuting", "debug", message, data, thread=result.thread)


def say_end(log: LogWriter, result: Result, index: int) -> None:
    """Log how a batch ended."""
    node, batch = result.node, result.batches[index - 1]
    if batch.status == "error":
        error = f"Exception on worker thread. {result.error}"
        data = {
            "build_path": "",
            "exc": error,
            "node_info": node_info(node, "executing", began=batch.began),
            "unique_id": node.unique_id,
        }
        message = f"Unhandled error while executing \n{error}"
        log.event("GenericExceptionOnRun", "error", message, data, thread=result.thread)
    words = {"success": ("OK created", "OK"), "error": ("ERROR creating", "ERROR")}
    word, status = words.get(batch.status, ("SKIP", "SKIPPED"))
    message, told = _told(result, index, word, f"{status} in {batch.seconds:.2f}s")
    # A skipped batch has not come to its end when it says so.
    state = ("started", "") if batch.status == "skipped" else (batch.status, batch.over)
    info = node_info(node, state[0], began=batch.began, over=state[1])
    said = "OK" if batch.status == "success" else batch.status
    data = told | {"status": said, "execution_time": batch.seconds, "node_info": info}
    log.event(
        "LogBatchResult",
        "error" if batch.status == "error" else "info",
        message,
        data,
        thread=result.thread,
    )
    well = batch.status == "success"
    run_result = {
        "adapter_response": {"_message": "OK"} if well else {},
        "execution_time": batch.seconds,
        "message": status,
        "num_failures": int(not well),
        "status": batch.status,
        "thread": result.thread,
        "timing_info": [],
    }
    info = node_info(node, batch.status, began=batch.began, over=batch.over)
    data = {"node_info": info, "run_result": run_result}
    message = f"Finished running node {node.unique_id}"
    log.event("NodeFinished", "debug", message, data, thread=result.thread)


def _told(result: Result, index: int, word: str, end: str) -> tuple[str, dict[str, Any]]:
    node, count = result.node, len(result.batches)
    description = f"batch {result.batches[index - 1].name} of {schema_of(node)}.{node.name}"
    message = dotted(f"PlayedBatch {index} of {count} {word} {description}", end)
    return message, {"batch_index": index, "description": description, "total_batches": count}


def _config(graph: Graph, node: Node) -> _Config:
    if not 0 <= node.config_index < len(graph.configs):
        return _Config()
    try:
        return msgspec.json.decode(graph.configs[node.config_index], type=_Config, strict=False)
    except msgspec.MsgspecError:
        return _Config()


def _is_name(name: str, size: str) -> bool:
    try:
        return _read(name, size).strftime(_FORMATS[size]) == name
    except ValueError:
        return False


def _read(name: str, size: str) -> datetime:
    return datetime.strptime(name, _FORMATS[size]).replace(tzinfo=timezone.utc)


def _given(text: str | None) -> datetime | None:
    """Read a time as dbt does: as one in UTC, whatever it says."""
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=timezone.utc)


def _truncated(moment: datetime, size: str) -> datetime:
    """Return the beginning of the batch that a time is in."""
    return _read(moment.strftime(_FORMATS[size]), size)


def _moved(moment: datetime, size: str, by: int) -> datetime:
    """Return the beginning of a later batch than that of a time, or of an earlier one."""
    begin = _truncated(moment, size)
    if size in {"hour", "day"}:
        return begin + timedelta(**{f"{size}s": by})
    months = begin.year * _MONTHS + begin.month - 1 + by * (_MONTHS if size == "year" else 1)
    return begin.replace(year=months // _MONTHS, month=months % _MONTHS + 1)
