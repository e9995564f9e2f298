"""
How fast a pod's log becomes a journal: `python tests/bench/bench_log.py [--json]`.

A log goes the producer's own way: `PodLogReader` cuts the bytes into lines and takes off the timestamps of the Kubernetes API,
`BuildWatch` makes changes and readable lines of them, with Airflow's masking of secrets, and `Pen` writes the pages, here into
a dictionary. That is measured from the lines on, as the reader hands them over, and from the bytes on. The same lines go
through `json.loads` alone, in the same run, in CPU seconds; the ratio is what can be compared between machines. The logs are
generated ones at info, and recorded ones at debug, the level that the producer asks for. Beside that, the memory that a log of
30 and of 300 MB needs.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from kubernetes.client import V1ObjectMeta, V1Pod, V1PodStatus

from dbt_watch.core.journal.writer import Publication
from dbt_watch.core.results import NodeInfo
from dbt_watch.producers.build_watch import BuildWatch
from dbt_watch.producers.journal_publisher import JournalPublisher
from dbt_watch.producers.pods.log_following import Position
from dbt_watch.producers.pods.log_reader import PodLogReader
from dbt_watch.producers.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PIECE = 64 * 1024
_ROUNDS = 20
_RECORDINGS = Path(__file__).parent.parent / "recordings"
_DEBUG = ("1.9__duckdb__build_t4_fail_debug", "1.12__postgres__build_t4_fail_debug")


def graph(count: int) -> dict[str, NodeInfo]:
    """Make `count` models, each with up to two parents."""
    return {
        _id(number): NodeInfo(
            name=f"model_{number:05}",
            resource_type="model",
            materialized="table",
            depends_on=tuple(_id(parent) for parent in {number // 2, number // 3} if parent < number),
        )
        for number in range(count)
    }


def info_log(
    nodes: dict[str, NodeInfo], invocation: str = "5236559e-90e8-486e-83ef-ef48c21ff47e"
) -> Iterator[bytes]:
    """Write what dbt 1.12 writes at info for these nodes: a line when one starts, one when it is done, and two around all."""
    total = len(nodes)
    yield _line(
        "MainReportVersion", "A001", _clock(0), invocation, "Running with dbt=1.12.6", {"version": "=1.12.6"}
    )
    for index, (unique_id, node) in enumerate(nodes.items(), start=1):
        began, ended = _clock(index), _clock(index + 40)
        yield _line(
            "LogStartLine", "Q011", began, invocation, f"{index} of {total} START sql table model main.{node.name} [RUN]",
            {"description": f"sql table model main.{node.name}", "index": index, "total": total,
             "node_info": _node_info(unique_id, node, "started", began, "")},
        )  # fmt: skip
        yield _line(
            "LogModelResult", "Q012", ended, invocation,
            f"{index} of {total} OK created sql table model main.{node.name} [\x1b[32mSELECT 100\x1b[0m in 0.41s]",
            {"description": f"sql table model main.{node.name}", "execution_time": 0.41234, "index": index, "total": total,
             "node_info": _node_info(unique_id, node, "success", began, ended), "status": "SELECT 100"},
        )  # fmt: skip
    yield _line(
        "StatsLine",
        "Z023",
        _clock(total + 41),
        invocation,
        f"Done. TOTAL={total}",
        {"stats": {"total": total}},
    )


def _id(number: int) -> str:
    return f"model.shop.model_{number:05}"


def _clock(tick: int) -> str:
    seconds, millis = divmod(tick * 7, 1000)
    return f"2026-11-21T{8 + seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{millis:03}511"


def _node_info(unique_id: str, node: NodeInfo, status: str, began: str, ended: str) -> dict[str, object]:
    return {
        "materialized": node.materialized, "meta": {"owner": "finance", "tier": 1.0},
        "node_checksum": "841b3322af635b2fe95ae87ef32ff82ba8cf07f29ffb67fbcca3d4e26bdd24b4",
        "node_finished_at": ended, "node_name": node.name, "node_path": f"marts/{node.name}.sql",
        "node_relation": {"alias": node.name, "database": "shop", "relation_name": f'"shop"."main"."{node.name}"', "schema": "main"},
        "node_started_at": began, "node_status": status, "resource_type": node.resource_type, "unique_id": unique_id,
    }  # fmt: skip


def _line(name: str, code: str, ts: str, invocation: str, msg: str, data: dict[str, object]) -> bytes:
    info = {
        "category": "", "code": code, "extra": {}, "invocation_id": invocation, "level": "info", "msg": msg,
        "name": name, "pid": 15310, "thread": "Thread-1 (worker)", "ts": ts + "Z",
    }  # fmt: skip
    return json.dumps({"data": data, "info": info}).encode()


def recorded(name: str) -> tuple[dict[str, NodeInfo], list[bytes]]:
    """Return the nodes and the lines of a recorded log."""
    graph_of_it = json.loads((_RECORDINGS / "index.json").read_bytes())[name]["graph"]
    nodes = msgspec.json.decode((_RECORDINGS / graph_of_it).read_bytes(), type=dict[str, NodeInfo])
    return nodes, (_RECORDINGS / f"{name}.jsonl").read_bytes().split(b"\n")[:-1]


class PodLog:
    """Stands for the client of a cluster in which a pod has written a log and ended."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def read_namespaced_pod_log(self, **_: Any) -> PodLog:
        return self

    def stream(self, **_: Any) -> Iterator[bytes]:
        """Yield the log once; nothing when its rest is asked for."""
        yield from self._pieces

    def release_conn(self) -> None:
        pass


def pieces_of(lines: Iterable[bytes]) -> list[bytes]:
    """Cut a log as the Kubernetes API hands it out: a timestamp in front of each line, 64 KiB at a time."""
    log = b"".join(b"2026-11-21T08:00:00.%09dZ %b\n" % stamped for stamped in enumerate(lines))
    return [log[at : at + _PIECE] for at in range(0, len(log), _PIECE)]


def from_lines(blocks: Iterable[list[bytes]], nodes: dict[str, NodeInfo]) -> None:
    """Go the producer's way from the lines on."""
    watch, publisher = watch_of(nodes)
    for block in blocks:
        watch.take_lines(block, True)
        publisher.write()
    watch.end(0)
    publisher.finish()


def from_bytes(pieces: Iterable[bytes], nodes: dict[str, NodeInfo]) -> None:
    """Go the producer's whole way, from the connection to the XComs."""
    watch, publisher = watch_of(nodes)
    pod = V1Pod(metadata=V1ObjectMeta(name="pod", namespace="shop"), status=V1PodStatus(phase="Succeeded"))
    reader = PodLogReader(
        PodLog(pieces),
        lambda pod: pod,
        pod,
        "base",
        position=Position(),
        on_lines=watch.take_lines,
        on_tick=publisher.write,
    )
    reader.follow()
    watch.end(0)
    publisher.finish()


def watch_of(nodes: dict[str, NodeInfo]) -> tuple[BuildWatch, JournalPublisher]:
    """Make what an attempt makes, with a journal in a dictionary and a task log that nobody keeps."""
    xcoms: dict[str, object] = {}
    watch = BuildWatch(nodes, attempt=1, show=lambda _: None, redact=redact)
    publisher = JournalPublisher(Publication(watch.writer, will_retry=False), xcoms.__setitem__)
    publisher.flush()
    return watch, publisher


def blocks_of(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines of 64 KiB at a time, as the reader does."""
    at, size = 0, 0
    for end, line in enumerate(lines, 1):
        size += len(line)
        if size >= _PIECE or end == len(lines):
            yield lines[at:end]
            at, size = end, 0


def cpu_seconds(*works: Callable[[], object]) -> list[float]:
    """Return the least CPU time of some runs of each; they take turns, so that a busy machine is busy for all."""
    best = [float("inf")] * len(works)
    for _ in range(_ROUNDS):
        for index, work in enumerate(works):
            gc.collect()
            start = time.process_time()
            work()
            best[index] = min(best[index], time.process_time() - start)
    return best


def _load(lines: list[bytes]) -> None:
    for line in lines:
        if line.startswith(b"{"):  # what a model prints stands among the records
            json.loads(line)


def memory_of(megabytes: int) -> int:
    """Return the peak of Python's memory in KiB while a log of this size, free text and events, is read."""
    nodes = graph(200)
    piece = b"".join(pieces_of([*info_log(nodes), *[b"progress without a record " * 40] * 600]))[: 1 << 20]
    tracemalloc.start()
    from_bytes((piece for _ in range(megabytes)), nodes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    logs = {
        f"info, {count:,} models": (made := graph(count), list(info_log(made))) for count in (1_000, 5_000)
    }
    logs |= {f"debug, {name}": recorded(name) for name in _DEBUG}
    rows = [measure(name, nodes, lines) for name, (nodes, lines) in logs.items()]
    memory = {"kib_for_30_mb": memory_of(30), "kib_for_300_mb": memory_of(300)}
    sys.stdout.write(
        (json.dumps({"log": rows, "memory": memory}) if options.json else table(rows, memory)) + "\n"
    )


def measure(name: str, nodes: dict[str, NodeInfo], lines: list[bytes]) -> dict[str, object]:
    blocks, pieces = list(blocks_of(lines)), pieces_of(lines)
    plain, by_lines, by_bytes = cpu_seconds(
        lambda: _load(lines), lambda: from_lines(blocks, nodes), lambda: from_bytes(pieces, nodes)
    )
    count = len(lines)
    return {
        "log": name, "lines": count, "bytes_per_line": sum(map(len, lines)) // count,
        "json_lines_per_s": round(count / plain),
        "lines_per_s": round(count / by_lines), "ratio": round(plain / by_lines, 2),
        "lines_per_s_from_bytes": round(count / by_bytes), "ratio_from_bytes": round(plain / by_bytes, 2),
    }  # fmt: skip


def table(rows: list[dict[str, object]], memory: dict[str, int]) -> str:
    lines = [
        "| log | lines | bytes a line | json.loads, lines/CPU s | from the lines on | ratio | from the bytes on | ratio |",
        "|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows),
        "",
        f"Peak of Python's memory, in KiB: {memory['kib_for_30_mb']} for a log of 30 MB, {memory['kib_for_300_mb']} for 300 MB.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
