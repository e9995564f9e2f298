"""Logs as dbt might write them, for hypothesis: any mixture of nodes, endings, engines, levels and dbt commands."""

import json

import msgspec
from hypothesis import strategies as st

from dbt_watch.core.results import NodeInfo

ENDINGS = (
    "success", "error", "warn", "fail", "skipped", "no-op", "partial success", "runtime error", "reused", "strange",
    "unfinished", "silent", "microbatch", "unit_fail", "unit_pass",
)  # fmt: skip
_RESULT_EVENTS = {"model": "LogModelResult", "test": "LogTestResult", "seed": "LogSeedResult", "snapshot": "LogSnapshotResult",
                  "unit_test": "LogTestResult", "operation": "LogHookEndLine"}  # fmt: skip


class Story(msgspec.Struct):
    """What one dbt command tells of one node, record by record."""

    unique_id: str
    records: list[tuple[str, str, dict]]  # name of the event, level, data


class GeneratedLog(msgspec.Struct):
    lines: list[bytes]
    nodes: dict[str, NodeInfo]
    exit_code: int | None

    @property
    def log(self):
        return b"".join(line + b"\n" for line in self.lines)


def _at(tick):
    return f"2026-11-21T{8 + tick // 3_600_000:02}:{tick // 60_000 % 60:02}:{tick // 1000 % 60:02}.{tick % 1000:03}000"


def _info(unique_id, kind, status, began="", over=""):
    name = unique_id.split(".")[2]
    return {"unique_id": unique_id, "node_name": name, "resource_type": kind, "materialized": "table", "meta": {"level": "debug"},
            "node_path": f"{name}.sql", "node_status": status, "node_started_at": began, "node_finished_at": over,
            "node_relation": {"relation_name": f'"db"."{name}"'}}  # fmt: skip


def story(unique_id, kind, ending, tick, *, debug):  # noqa: C901, PLR0912 - one row after the other of what dbt does
    """Write the records of one node; `tick` is when it begins, in milliseconds."""
    began, over = _at(tick), _at(tick + 500)
    if ending == "silent":
        return Story(unique_id, [])
    records = []

    def say(name, level, **data):
        records.append((name, level, data))

    if debug:
        say("NodeStart", "debug", node_info=_info(unique_id, kind, "started", began))
    if ending == "skipped":
        say("SkippingDetails", "info", node_info=_info(unique_id, kind, "skipped", began))
        if debug:
            say(
                "NodeFinished",
                "debug",
                node_info=_info(unique_id, kind, "started", began),
                run_result={"status": "skipped"},
            )
        return Story(unique_id, records)
    say("LogStartLine", "info", node_info=_info(unique_id, kind, "started", began), total=7)
    if debug:
        say("SQLQuery", "debug", node_info=_info(unique_id, kind, "executing", began), sql="select 1")
    if ending == "unfinished":
        return Story(unique_id, records)
    status, fields = ending, {"execution_time": 0.5}
    if ending == "microbatch":
        status = "partial success"
        for index in (1, 2, 3):
            batch = _at(tick + 100 * index)
            word = "error" if index == 2 else "success"
            if debug:
                say("NodeStart", "debug", node_info=_info(unique_id, kind, "started", batch))
            say(
                "LogStartBatch",
                "info",
                node_info=_info(unique_id, kind, "started", batch),
                batch_index=index,
                total_batches=3,
            )
            if index == 2:
                say(
                    "GenericExceptionOnRun",
                    "error",
                    node_info=_info(unique_id, kind, "executing", batch),
                    exc="batch broke",
                )
            say("LogBatchResult", "info", node_info=_info(unique_id, kind, word, batch, over), batch_index=index, total_batches=3,
                status=word)  # fmt: skip
            if debug:
                say(
                    "NodeFinished",
                    "debug",
                    node_info=_info(unique_id, kind, word, batch, over),
                    run_result={"status": word, "message": "OK"},
                )
    if ending in {"unit_fail", "unit_pass"}:
        kind, status = "unit_test", ending[5:]
        fields["num_failures"] = int(status == "fail")
        info = _info(unique_id, kind, "None")
    else:
        info = _info(unique_id, kind, status, began, over)
    if status in {"error", "runtime error"} and debug:
        say(
            "CatchableExceptionOnRun",
            "debug",
            node_info=_info(unique_id, kind, "executing", began),
            exc=f"error of {unique_id}",
        )
    if kind == "test":
        fields["num_failures"] = 3
    name = "LogNodeNoOpResult" if status == "no-op" else _RESULT_EVENTS[kind]
    say(
        name,
        "error" if status in {"error", "fail"} else "info",
        node_info=info,
        status=status.upper() if kind == "model" else status,
        **fields,
    )
    if debug:
        result = {"status": status, "message": f"message of {unique_id}", "num_failures": 3, "execution_time": 0.5,
                  "adapter_response": {"rows_affected": 7.0, "code": "SELECT"}}  # fmt: skip
        say("NodeFinished", "debug", node_info={**info, "node_started_at": began}, run_result=result)
        if status in {"error", "fail"}:
            say("MarkSkippedChildren", "debug", unique_id=unique_id, status=status, run_result=result)
    if status in {"error", "fail", "runtime error"}:
        say(
            "RunResultError", "error", node_info=_info(unique_id, kind, "None"), msg=f"message of {unique_id}"
        )
    return Story(unique_id, records)


def encode(record, ts, invocation, *, compact):
    name, level, data = record
    info = {"category": "", "code": "X", "extra": {}, "invocation_id": invocation, "level": level, "msg": f"{name} \x1b[31mred\x1b[0m",
            "name": name, "pid": 1, "thread": "Thread-1", "ts": ts + "Z"}  # fmt: skip
    separators = (",", ":") if compact else None
    return json.dumps({"data": data, "info": info}, separators=separators, ensure_ascii=not compact).encode()


KINDS = ("model", "test", "seed", "snapshot", "operation")


@st.composite
def logs(draw, max_nodes=7, max_commands=2):
    """Draw a log of one or more dbt commands, the records of its nodes interleaved, each node's in their order."""
    count = draw(st.integers(0, max_nodes))
    kinds = [draw(st.sampled_from(KINDS)) for _ in range(count)]
    ids = [f"{kind}.shop.n{number}" for number, kind in enumerate(kinds)]
    nodes = {
        unique_id: NodeInfo(
            unique_id.split(".")[2],
            kind,
            draw(st.sampled_from(["table", "ephemeral", ""])),
            tuple(draw(st.lists(st.sampled_from(ids[:number]), max_size=2))) if number else (),
        )
        for number, (unique_id, kind) in enumerate(zip(ids, kinds, strict=True))
        if draw(st.booleans())
    }
    debug, compact = draw(st.booleans()), draw(st.booleans())
    lines, tick = [], 0
    commands = draw(st.integers(1, max_commands))
    for command in range(commands):
        invocation = f"{command:08}-e90e-486e-83ef-ef48c21ff47e"
        stories = [
            story(unique_id, kind, draw(st.sampled_from(ENDINGS)), tick + number, debug=debug)
            for number, (unique_id, kind) in enumerate(zip(ids, kinds, strict=True))
        ]
        queues = [list(told.records) for told in stories if told.records]
        lines.append(
            encode(("MainReportVersion", "info", {"version": "1"}), _at(tick), invocation, compact=compact)
        )
        tick += 5_000
        while queues:
            queue = queues[draw(st.integers(0, len(queues) - 1))]
            lines.append(encode(queue.pop(0), _at(tick), invocation, compact=compact))
            tick += 1
            queues = [queue for queue in queues if queue]
        # Without the summary of one, another would not be believed.
        if command + 1 < commands or draw(st.booleans()):
            lines.append(encode(("StatsLine", "info", {"stats": {}}), _at(tick), invocation, compact=compact))
        tick += 5_000
    return GeneratedLog(lines, nodes, draw(st.sampled_from([0, 1, 2, 137, None])))


texts = st.one_of(
    st.sampled_from([
        b"42", b"null", b"[1,2]", b'{"level":"info","data":"text"}', b"\xff\xfe\x00", b"x" * 5_000, b"progress no newline",
        b'{"info": 5}', b'{"info": {"name": "LogModelResult"}}', b"{" * 50, b'"', b"}}", b"\xe2\x80\xa8", b"\x1b[2J\x07", b"\r",
    ]),
    st.binary(min_size=1, max_size=60).map(lambda raw: raw.replace(b"\n", b" ")),
)  # fmt: skip
"""Free text as programs print it: other people's JSON, binary, control characters."""
