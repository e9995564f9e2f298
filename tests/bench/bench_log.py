"""
How fast a log becomes a journal: `python tests/bench/bench_log.py [--json]`.

The same generated lines go through `json.loads` alone, from the log to the journal (lines, events, ledger, pages), and the
same with the readable lines of the task log made beside it, in the same run, in CPU seconds; the ratio is what can be
compared between machines. Beside that, the memory that a log of 30 and of 300 MB needs.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

from dbt_watch.core.journal.format import Page, encode_page
from dbt_watch.core.journal.writer import JournalWriter
from dbt_watch.core.log.ledger import Ledger, NodeInfo
from dbt_watch.core.log.stream import LogStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 64 * 1024
_ROUNDS = 20


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


def to_journal(log: bytes, nodes: dict[str, NodeInfo], *, readable: bool) -> int:
    """Go the whole way; with the readable lines, as the producer does. Give the number of chunks."""
    stream = LogStream(Ledger(nodes), readable=readable)
    writer = JournalWriter(attempt=1)
    chunks = 0

    def flush(*, all_of_it: bool = False) -> None:
        nonlocal chunks
        while writer.pending >= (1 if all_of_it else 200):
            chunk = writer.take()
            if chunk is None:
                break
            encode_page(Page(chunk, will_retry=False))
            writer.written(chunk)
            chunks += 1

    for at in range(0, len(log), _PIECE):
        writer.add(stream.feed(log[at : at + _PIECE]).changes)
        flush()
    writer.add(stream.close(0).changes)
    flush(all_of_it=True)
    return chunks


def cpu_seconds(*works: Callable[[], object]) -> list[float]:
    """Give the least CPU time of some runs of each; they take turns, so that a busy machine is busy for all."""
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
        json.loads(line)


def memory_of(megabytes: int) -> int:
    """Give the peak of Python's memory in KiB while a log of this size, free text and events, is read."""
    nodes = graph(200)
    once = b"\n".join(info_log(nodes)) + b"\n"
    noise = b"progress without a record " * 40 + b"\n"
    piece = (once + noise * 100)[: 1 << 20]
    stream = LogStream(Ledger(nodes))
    stream.feed(piece)
    tracemalloc.start()
    for _ in range(megabytes):
        stream.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    rows = []
    for count in (1_000, 5_000):
        nodes = graph(count)
        lines = list(info_log(nodes))
        log = b"\n".join(lines) + b"\n"
        plain, journal, both = cpu_seconds(
            lambda lines=lines: _load(lines),
            lambda log=log, nodes=nodes: to_journal(log, nodes, readable=False),
            lambda log=log, nodes=nodes: to_journal(log, nodes, readable=True),
        )
        count_of = len(lines)
        rows.append({
            "nodes": count, "lines": count_of, "bytes_per_line": len(log) // count_of,
            "json_lines_per_s": round(count_of / plain), "lines_per_s": round(count_of / journal),
            "ratio": round(plain / journal, 2), "readable_lines_per_s": round(count_of / both),
            "readable_ratio": round(plain / both, 2),
        })  # fmt: skip
    memory = {"kib_for_30_mb": memory_of(30), "kib_for_300_mb": memory_of(300)}
    sys.stdout.write(
        (json.dumps({"log": rows, "memory": memory}) if options.json else table(rows, memory)) + "\n"
    )


def table(rows: list[dict[str, object]], memory: dict[str, int]) -> str:
    lines = [
        "| nodes | lines | bytes a line | json.loads, lines/CPU s | log to journal | ratio | with readable lines | ratio |",
        "|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows),
        "",
        f"Memory beyond the ledger, in KiB: {memory['kib_for_30_mb']} for a log of 30 MB, {memory['kib_for_300_mb']} for 300 MB.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
