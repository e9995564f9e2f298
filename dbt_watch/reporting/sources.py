"""
Reads a run of dbt from a file: a log, a run_results.json or sources.json, a journal, or a record of an earlier report.

What kind of file it is, is told from its content. `reporting.command` calls it; a run of a DAG is read by `reporting.dag_runs`.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.causes import has_broken_off
from dbt_watch.core.journal.format import JournalError, part_key
from dbt_watch.core.journal.reader import JournalReader, read_now
from dbt_watch.core.log.artifacts import read_artifact
from dbt_watch.core.log.entries import concluded, moment
from dbt_watch.core.log.ledger import Ledger
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.core.log.node_state import Slot
from dbt_watch.core.log.queries import MAX_SQL_CHARS
from dbt_watch.core.log.skip_causes import SkipCauses
from dbt_watch.core.log.stream import LogStream
from dbt_watch.core.results import NodeResult, NotRun, shortened
from dbt_watch.core.text import sanitize
from dbt_watch.core.xcom_values import results_in
from dbt_watch.exceptions import ArgumentError
from dbt_watch.reporting.evidence import CommandFacts, Evidence, TryKey, key_of, threads_of
from dbt_watch.reporting.log_facts import LogFacts
from dbt_watch.reporting.run_record import RecordError, RunRecord, record_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dbt_watch.core.journal.reader import JournalState
    from dbt_watch.core.results import SelectedNode
    from dbt_watch.reporting.run_record import Outcome

ACCEPTED: Final = "a dbt log (--log-format json), a run_results.json or sources.json, a journal, or the JSON of an earlier report"
"""What a file may be, for messages."""

_PIECE: Final = 1 << 20


def read_source(
    content: bytes,
    name: str,
    nodes: Mapping[str, SelectedNode],
    *,
    attempt: int = 1,
    run_results: bytes | None = None,
) -> Evidence | RunRecord:
    """
    Read a run from the content of a file.

    :param content: the content
    :param name: of the file, for messages
    :param nodes: those of the project's manifest; empty without one
    :param attempt: which attempt a log or an artifact is of; a journal tells itself
    :param run_results: with a log, the artifact of the same run
    :raises ArgumentError: when it is something else
    """
    document = _document_in(content)
    if document is None:
        return evidence_of_log(content, f"the log {name}", nodes, attempt=attempt, run_results=run_results)
    if run_results is not None:
        raise ArgumentError("--run-results", name, "a dbt log as FILE, to which it adds what is missing")
    if "metadata" in document and "results" in document:
        return evidence_of_artifact(content, name, nodes, attempt=attempt)
    if part_key(0) in document:
        return evidence_of_journal(document.get, f"the journal {name}")
    if "format" in document and "commands" in document:
        try:
            return record_in(content)
        except RecordError as error:
            raise ArgumentError("FILE", name, f"the JSON of an earlier report ({error})") from error
    if "metadata" in document and "nodes" in document:
        raise ArgumentError("FILE", name, f"{ACCEPTED}; a manifest.json belongs to --manifest")
    if any(key.startswith("journal_") for key in document):
        raise ArgumentError("FILE", name, f"a complete journal, with the key {part_key(0)}")
    raise ArgumentError("FILE", name, ACCEPTED)


def _document_in(content: bytes) -> dict[str, Any] | None:
    """Return the one JSON object that a file is; None when it is a log, which may have a single line."""
    try:
        document = msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return None if "info" in document else {key: bytes(value) for key, value in document.items()}


# A log.


def evidence_of_log(
    content: bytes,
    source: str,
    nodes: Mapping[str, SelectedNode],
    *,
    attempt: int = 1,
    run_results: bytes | None = None,
) -> Evidence:
    """Return what a log tells; see `read_source`."""
    ledger = Ledger(nodes, attempt=attempt)
    stream, facts, splitter = LogStream(ledger), LogFacts(), LineSplitter()
    tries: dict[TryKey, NodeResult] = {}
    for lines in _lines(content, splitter):
        facts.note(lines)
        _note_tries(tries, stream.feed_lines(lines).changes)
    exit_code = None
    if ledger.run.has_summary:
        exit_code = int(any(entry.is_failure for entry in ledger.entries.values()))
    _note_tries(tries, stream.close(exit_code, run_results).changes)
    results = {key: entry for key, entry in ledger.entries.items() if not _was_left_out(entry)}
    _note_tries(tries, results.values())
    known = ledger.run.commands
    threads = {(attempt, *key): thread for key, thread in facts.threads.items() if key[0] in known}
    if run_results is not None:
        threads.update(_threads_in(run_results, attempt))
    end = ledger.run.end
    return Evidence(
        source=source,
        outcome=_outcome(exit_code),
        results=results,
        tries=tries,
        threads=threads,
        commands={(attempt, key): found for key in known if (found := facts.commands.get(key)) is not None},
        why=end.why if end is not None and end.early else "",
        notes=tuple(_notes_of_log(ledger, len(ledger.entries) - len(results))),
    )


def _lines(content: bytes, splitter: LineSplitter) -> Iterator[list[bytes]]:
    for start in range(0, len(content), _PIECE):
        yield splitter.feed(content[start : start + _PIECE])
    yield splitter.flush()


def _note_tries(tries: dict[TryKey, NodeResult], changes: Iterable[NodeResult]) -> None:
    tries.update((key_of(change), change) for change in changes if change.started_at is not None)


_LEFT_OUT: Final = frozenset({NotRun.NOT_IN_PROJECT, NotRun.EPHEMERAL, NotRun.NOTHING_TO_RUN})


# What a command that checks the freshness of sources reports: these, and its hooks.
_CHECKED: Final = ("source.", "operation.")


def _was_left_out(entry: NodeResult) -> bool:
    """Return whether a node of the manifest had no part in the run."""
    return entry.not_run in _LEFT_OUT and entry.started_at is None


def _notes_of_log(ledger: Ledger, left_out: int) -> Iterator[str]:
    if left_out:
        yield (
            f"{_nodes(left_out)} of the manifest were not part of the run: not selected, ephemeral, or nothing to run"
        )
    is_check = bool(ledger.entries) and all(key.startswith(_CHECKED) for key in ledger.entries)
    lacks = ledger.run.check_lacks if is_check else ledger.run.lacks
    if lacks:
        yield lacks


def _outcome(exit_code: int | None) -> Outcome:
    return "error" if exit_code is None else "failure" if exit_code else "success"


# An artifact of dbt.


class _Details(msgspec.Struct, gc=False):
    unique_id: str = ""
    thread_id: str | None = None
    compiled_code: str | None = None


class _Metadata(msgspec.Struct, gc=False):
    dbt_version: str = ""
    generated_at: str = ""
    invocation_id: str = ""
    invocation_started_at: str | None = None


class _Artifact(msgspec.Struct, gc=False):
    metadata: _Metadata
    results: list[_Details] = []


def evidence_of_artifact(
    content: bytes, name: str, nodes: Mapping[str, SelectedNode], *, attempt: int = 1
) -> Evidence:
    """
    Return what a run_results.json or a sources.json tells.

    :raises ArgumentError: when it cannot be read
    """
    artifact = read_artifact(content)
    try:
        more = msgspec.json.decode(content, type=_Artifact)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ArgumentError("FILE", name, f"a run_results.json that is not damaged ({error})") from error
    if artifact is None:
        raise ArgumentError("FILE", name, "a run_results.json that is not damaged")
    sql = {found.unique_id: found.compiled_code for found in more.results}
    results: dict[str, NodeResult] = {}
    for found in artifact.results:
        slot = Slot(found.unique_id, artifact.invocation_id)
        result = concluded(found, slot, nodes.get(found.unique_id), attempt)
        code = sql.get(found.unique_id)
        if result.is_failure and code:
            shown = shortened(sanitize(code.strip()), MAX_SQL_CHARS)
            result = msgspec.structs.replace(result, sql=shown or None)
        results[found.unique_id] = result
    for unique_id, causes in SkipCauses(nodes, results).settled().items():
        results[unique_id] = msgspec.structs.replace(results[unique_id], skipped_because=causes)
    any_failed = any(result.is_failure for result in results.values())
    facts = CommandFacts(
        dbt_version=more.metadata.dbt_version,
        started_at=moment(more.metadata.invocation_started_at),
        finished_at=moment(_microseconds(more.metadata.generated_at)),
    )
    return Evidence(
        source=f"the results {name}",
        outcome="failure" if any_failed else "success",
        results=results,
        tries={key_of(result): result for result in results.values() if result.started_at is not None},
        threads=_threads_in(content, attempt),
        commands={(attempt, artifact.invocation_id): facts},
    )


def _threads_in(content: bytes, attempt: int) -> dict[TryKey, str]:
    """Return the thread of each node that an artifact names."""
    try:
        artifact = msgspec.json.decode(content, type=_Artifact)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    invocation = artifact.metadata.invocation_id
    return {
        (attempt, invocation, found.unique_id): found.thread_id
        for found in artifact.results
        if found.thread_id
    }


def _microseconds(written: str) -> str:
    """Return a time without the nanoseconds that Fusion writes, which Python 3.10 does not read."""
    whole, dot, fraction = written.removesuffix("Z").partition(".")
    return f"{whole}{dot}{fraction[:6]}"


# A journal.


def evidence_of_journal(ask: Callable[[str], Any], source: str, label: str = "") -> Evidence:
    """
    Return what the journal of a producer tells.

    :param ask: returns an XCom of its by the key, as the REST API does; None where there is none
    :param source: where they come from, in words
    :param label: what to call the dbt commands; empty where the attempt says enough
    :raises ArgumentError: when they are no journal, or a damaged one
    """
    reader = JournalReader()
    try:
        read_now(reader, lambda key: decoded_xcom(ask(key)))
    except JournalError as error:
        raise ArgumentError("FILE", source, f"a journal ({error})") from error
    return evidence_of_state(reader.state, source, label)


def evidence_of_state(state: JournalState, source: str, label: str = "") -> Evidence:
    """Return what a journal tells that has been read; see `evidence_of_journal`."""
    results = dict(state.entries)
    notes = []
    if state.attempt > 1:
        notes.append(f"{HOLDS_ONE_ATTEMPT} {state.attempt} only: each attempt overwrites the previous one")
    outcome: Outcome = "unfinished"
    if state.closed is None:
        notes.append("the journal has no end: dbt is still running, or the producer was stopped")
    else:
        outcome = "error" if has_broken_off(state.closed, results) else "failure"
        if state.closed.exit_code == 0:
            outcome = "success"
    why = (state.closed.reason or "") if state.closed is not None and state.closed.exit_code != 0 else ""
    tries = {key_of(result): result for result in results.values() if result.started_at is not None}
    threads = state.closed.threads if state.closed is not None else None
    own = {key[:2] for key in tries if key[0] == state.attempt}
    return Evidence(
        source=source,
        outcome=outcome,
        results=results,
        tries=tries,
        threads=threads_of(tries),
        commands={
            key[:2]: CommandFacts(label=label, threads=threads if key[:2] in own else None)
            for key in tries
            if label or threads is not None
        },
        why=why,
        notes=tuple(notes),
    )


HOLDS_ONE_ATTEMPT: Final = "the journal holds attempt"
"""How the note begins that what was before the last attempt is not in the journal."""


def evidence_of_sensors(values: Iterable[Any], source: str) -> Evidence | None:
    """
    Return what the tasks of nodes have left, where there is no journal; None where none of them is one.

    :param values: what tasks returned, as XCom gives it back
    :param source: where they come from, in words
    """
    results = results_of_sensors(values)
    if not results:
        return None
    any_failed = any(result.is_failure for result in results.values())
    tries = {key_of(result): result for result in results.values() if result.started_at is not None}
    return Evidence(
        source=source,
        outcome="failure" if any_failed else "success",
        results=results,
        tries=tries,
        threads=threads_of(tries),
        notes=(LEFT_BY_SENSORS,),
    )


def results_of_sensors(values: Iterable[Any]) -> dict[str, NodeResult]:
    """Return the results that the tasks of nodes have left; what other tasks returned counts for nothing."""
    results: dict[str, NodeResult] = {}
    for value in values:
        try:
            found = results_in(decoded_xcom(value))
        except (msgspec.MsgspecError, zlib.error, TypeError, ValueError, AttributeError):
            continue
        results.update((result.unique_id, result) for result in found)
    return results


LEFT_BY_SENSORS: Final = (
    "the journal of the producer is gone, for example because it was cleared: these are the results in the XComs of the"
    " node tasks; nodes without such a result are missing"
)
"""The note of such a report."""


def decoded_xcom(value: Any) -> Any:
    """Return an XCom without the extra encodings as JSON that it may bear; what a trigger stores has one more."""
    with contextlib.suppress(ValueError):
        while isinstance(value, (str, bytes)):
            value = json.loads(value)
    return value


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
