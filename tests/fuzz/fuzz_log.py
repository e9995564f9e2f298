"""
Fuzz the reading of dbt's log for a bounded time: `python tests/fuzz/fuzz_log.py [--seconds 60]`.

Recorded lines are damaged in the ways that a log gets damaged, and in ways that only malice would think of; hypothesis
looks for an input that breaks a promise and makes it small. Each failing input is printed as Python text, with the
error; the exit status is 1 then. `nox -s fuzz` runs it, and `test_fuzz_log.py` for two seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "core"))

from recorded import SMALL, lines_of

from dbt_watch.core.journal.format import decode_chunk
from dbt_watch.core.journal.reader import JournalState
from dbt_watch.core.journal.writer import JournalWriter
from dbt_watch.core.log.events import DbtEvent, decode_lines, read_line
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.results import NodeResult

if TYPE_CHECKING:
    from collections.abc import Callable

_AT_ONCE = 200
_MAX_LINE = 20_000
_MAX_CHUNK_BYTES = 4_096

# What stands in a log where something else should: other types, numbers at the edge, text that cannot be encoded,
# nesting, and the beginnings and ends of records.
_TOKENS = (
    b"null", b"true", b"0", b"-1", b"1e999", b"NaN", b"99999999999999999999999", b'""', b"[]", b"{}", b'"\\ud800"', b'"\\u0000"',
    b"\xff", b"\xe2\x80\xa8", b"\x1b[31m", b"\x7f", b"\r", b"\x00", b"[" * 2_000, b'{"a":' * 2_000, b'{"info":', b'{"data": {', b"}}",
    b'"name": "SQLQuery"', b'"level": "debug"', b'"node_status": "started"', b"\\", b'"', b"2026-13-45T99:99:99.999999",
    b"0001-01-01T00:00:00.000000", b'"unique_id": ""', b"skipped", b"success", b"LogModelResult", b"NodeFinished", b"Note",
)  # fmt: skip


def _lines() -> tuple[bytes, ...]:
    """Return the recorded lines to start from: a few of each kind of event of each recording."""
    kept: dict[bytes, None] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for name in SMALL:
        for line in lines_of(name):
            part = read_line(line)[-1]
            key = (name, part.info.name if isinstance(part, DbtEvent) else "")
            seen[key] += 1
            if seen[key] <= 2 and len(line) <= _MAX_LINE:
                kept[line] = None
    return tuple(kept)


LINES = _lines()


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """Draw a recorded line with up to four injuries; at times one that is whole."""
    line = draw(st.sampled_from(LINES))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(line)))
        end = min(len(line), start + draw(st.sampled_from((0, 0, 1, 2, 8, 40, 400))))
        piece = draw(st.one_of(st.binary(max_size=6), st.sampled_from(_TOKENS), st.sampled_from(LINES)))
        how = draw(st.sampled_from(("overwrite", "insert", "delete", "repeat", "value")))
        if how == "value":
            # The value behind a colon, so that the record stays one.
            start = line.find(b": ", start) + 2
            ends = [at for at in (line.find(b",", start), line.find(b"}", start)) if at >= 0]
            end = min(ends, default=len(line))
        middle = {"insert": piece + line[start:end], "delete": b"", "repeat": line[start:end] * 2}.get(
            how, piece
        )
        line = line[:start] + middle + line[end:]
    return line


damaged_logs = st.lists(damaged_lines(), max_size=6).map(
    lambda lines: b"".join(line + b"\n" for line in lines)
)


def check_reader(line: bytes) -> None:
    """Any line is read without an exception, and the ways to read it agree."""
    line = line.replace(b"\n", b" ")
    parts = read_line(line)
    assert parts
    assert all(isinstance(part, (DbtEvent, str)) for part in parts)
    at_once = decode_lines([line])
    assert at_once is None or parts == at_once


def check_stream(log: bytes) -> None:
    """Any log is read without an exception; cut anywhere, it says the same; in the end no node is open."""
    whole, pieces = LogStream(Ledger()), LogStream(Ledger())
    expected = whole.feed(log)
    lines, changes = [], []
    for at in range(0, len(log), 977):
        batch = pieces.feed(log[at : at + 977])
        lines += batch.lines
        changes += batch.changes
    last, last_of_pieces = whole.close(1), pieces.close(1)
    assert lines + last_of_pieces.lines == expected.lines + last.lines
    assert changes + last_of_pieces.changes == expected.changes + last.changes
    assert all(line.isprintable() for line in lines + last.lines)
    assert all(entry.is_final for entry in whole.ledger.entries.values())


def check_journal(log: bytes) -> None:
    """Whatever the log made of the nodes goes through the journal and comes back; no chunk is too long."""
    stream, state = LogStream(Ledger()), JournalState()
    writer = JournalWriter(attempt=1, max_chunk_bytes=_MAX_CHUNK_BYTES)
    writer.add(stream.feed(log).changes + stream.close(None, log).changes)
    writer.close(None, reason=log[:2_000].decode("utf-8", "replace"))
    while (chunk := writer.take()) is not None:
        text = json.dumps(msgspec.json.decode(msgspec.json.encode(chunk.fields())))
        assert len(text) <= _MAX_CHUNK_BYTES
        state.apply(decode_chunk(text))
        writer.written(chunk)
    entries = stream.ledger.entries
    assert {key: entry.status for key, entry in state.entries.items()} == {
        key: entry.status for key, entry in entries.items()
    }
    assert all(
        NodeResult.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry for entry in entries.values()
    )


TARGETS: dict[Callable[[bytes], None], st.SearchStrategy[bytes]] = {
    check_reader: st.one_of(damaged_lines(), st.binary(max_size=200)),
    check_stream: damaged_logs,
    check_journal: damaged_logs,
}


class Failure(NamedTuple):
    """An input that broke a promise, as small as hypothesis could make it."""

    target: str
    data: bytes
    error: str


def fuzz(seconds: float) -> tuple[Counter[str], list[Failure]]:
    """
    Try inputs until the time is over, and one for each target at least; a target that failed is not tried again.

    :param seconds: how long; a failure that is being made smaller may take longer
    :returns: how many inputs were tried for each target, and the failures
    """
    tried: Counter[str] = Counter()
    failures: list[Failure] = []
    failed: set[str] = set()
    over = time.monotonic() + seconds
    while (not tried or time.monotonic() < over) and len(failed) < len(TARGETS):
        for check, inputs in TARGETS.items():
            if check.__name__ in failed or (tried[check.__name__] and time.monotonic() >= over):
                continue
            failure = _round(check, inputs, tried, over)
            if failure is not None:
                failed.add(check.__name__)
                failures.append(failure)
    return tried, failures


def _round(
    check: Callable[[bytes], None], inputs: st.SearchStrategy[bytes], tried: Counter[str], over: float
) -> Failure | None:
    latest = b""
    has_failed = False

    # No database: a failure is printed, and every round draws other inputs.
    @settings(max_examples=_AT_ONCE, database=None, deadline=None, verbosity=Verbosity.quiet,
              suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink))  # fmt: skip
    @given(inputs)
    def attempt(data: bytes) -> None:
        nonlocal latest, has_failed
        if not has_failed and tried[check.__name__] and time.monotonic() >= over:
            return
        latest = data
        tried[check.__name__] += 1
        try:
            check(data)
        except Exception:
            has_failed = True
            raise

    try:
        attempt()
    except Exception:  # whatever it is, it is what was looked for  # noqa: BLE001
        # Hypothesis tries the smallest one last.
        return Failure(check.__name__, latest, traceback.format_exc())
    return None


def main() -> None:
    """Read the options, fuzz, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = float(os.environ.get("DBT_WATCH_FUZZ_SECONDS", "60"))
    parser.add_argument(
        "--seconds", type=float, default=default, help="how long; DBT_WATCH_FUZZ_SECONDS does the same"
    )
    options = parser.parse_args()
    tried, failures = fuzz(options.seconds)
    for failure in failures:
        sys.stdout.write(f"{failure.error}\n{failure.target}({failure.data!r})\n\n")
    counts = ", ".join(f"{target} {count}" for target, count in tried.items())
    sys.stdout.write(f"inputs tried: {counts}; failing targets: {len(failures)}\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
