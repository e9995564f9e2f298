"""Puts a `RunRecord` together: of what a source tells, a manifest and another run. `reporting.command` calls it."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core import statuses
from dbt_watch.core.causes import NOT_TRACED, causes_of, has_untraced
from dbt_watch.core.results import NotRun
from dbt_watch.core.statuses import Meaning
from dbt_watch.reporting.comparison import compared
from dbt_watch.reporting.critical_path import critical_path
from dbt_watch.reporting.evidence import CommandFacts, Evidence, key_of
from dbt_watch.reporting.run_record import Bar, CommandTimeline, NodeRecord, RunRecord
from dbt_watch.reporting.timeline import lanes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dbt_watch.core.results import NodeResult
    from dbt_watch.reporting.manifests import ManifestFacts
    from dbt_watch.reporting.run_record import Meaning as MeaningWord

NO_CRITICAL_PATH: Final = "there is no critical path, because the dependencies are not known: add a manifest"
"""The note where no critical path can be had."""

_WORDS: Final[dict[Meaning, MeaningWord]] = {
    Meaning.OPEN: "open",
    Meaning.SUCCESS: "success",
    Meaning.WARNING: "warning",
    Meaning.FAILURE: "failure",
    Meaning.SKIPPED: "skipped",
    Meaning.NOT_RUN: "not run",
}
# Of a node in such a state, the times say when dbt passed over it.
_DID_NOTHING: Final = frozenset({"skipped", "not run"})
_NEVER: Final = datetime.max.replace(tzinfo=timezone.utc)


def record_of(evidence: Evidence, manifest: ManifestFacts | None = None) -> RunRecord:
    """
    Return the record of a run.

    :param evidence: what a source tells of it
    :param manifest: that of the project, if there is one
    """
    results, notes = evidence.results, list(evidence.notes)
    started_at, finished_at = _span(evidence)
    nodes = sorted(
        (node_record(result, manifest) for result in results.values()),
        key=lambda node: (node.started_at or _NEVER, node.unique_id),
    )
    path = None
    if started_at is not None:
        spans = {
            node.unique_id: (_since(started_at, node.started_at), _since(started_at, node.finished_at))
            for node in nodes
            if node.started_at is not None
            and node.finished_at is not None
            and node.finished_at >= node.started_at
            and node.meaning not in _DID_NOTHING
        }
        path = critical_path(spans, manifest.graph.parent_map if manifest is not None else {})
        if path is None and spans:
            notes.append(NO_CRITICAL_PATH)
    if has_untraced(results):
        notes.append(NOT_TRACED)
    commands = _commands(evidence, started_at, finished_at)
    return RunRecord(
        source=evidence.source,
        project=_project(results, manifest),
        outcome=evidence.outcome,
        dbt_version=next((command.dbt_version for command in reversed(commands) if command.dbt_version), ""),
        started_at=started_at,
        finished_at=finished_at,
        nodes=tuple(nodes),
        causes=tuple(causes_of(results, broke_off=evidence.outcome == "error", why=evidence.why)),
        commands=tuple(commands),
        critical_path=path,
        comparison=None,
        notes=tuple(notes),
    )


def with_comparison(record: RunRecord, other: RunRecord) -> RunRecord:
    """Return the record of a run with what differs from another one."""
    return msgspec.structs.replace(record, comparison=compared(record.nodes, record.seconds, other))


# The nodes.


def node_record(result: NodeResult, manifest: ManifestFacts | None = None) -> NodeRecord:
    """Return what is shown of a node."""
    unique_id = result.unique_id
    known = manifest.graph.nodes.get(unique_id) if manifest is not None else None
    record = NodeRecord(
        unique_id=unique_id,
        name=result.label,
        kind=result.resource_type or unique_id.partition(".")[0],
        state=result.status,
        meaning=_WORDS[statuses.meaning(result.status)],
        started_at=result.started_at,
        finished_at=result.finished_at,
        seconds=_seconds(result),
        rows=result.rows_affected,
        failures=result.failures,
        message=result.message,
        sql=result.sql,
        relation=result.relation_name,
        not_run=result.not_run.value if result.not_run is not None else None,
        because=result.skipped_because,
        batches=result.batches,
        batch_count=result.batch_count,
        age=result.age,
        attempt=result.attempt,
        thread=result.thread,
    )
    if known is None or manifest is None:
        return record
    return msgspec.structs.replace(
        record,
        materialized=known.materialized or "",
        path=known.path,
        description=known.description,
        columns=manifest.columns.get(unique_id, ()),
        tests=manifest.tests_of(unique_id),
        depends_on=manifest.graph.parents(unique_id),
    )


def _seconds(result: NodeResult) -> float | None:
    """Return how long a node took, by dbt's own count where there is one."""
    if result.is_skipped or result.was_not_run:
        return None
    if result.execution_time is not None:
        return round(result.execution_time, 6)
    if result.started_at is None or result.finished_at is None:
        return None
    return max((result.finished_at - result.started_at).total_seconds(), 0.0)


def _project(results: Mapping[str, NodeResult], manifest: ManifestFacts | None) -> str:
    """Return the name of the project, by the manifest, or by the package that most nodes are of."""
    if manifest is not None and manifest.graph.project_name:
        return manifest.graph.project_name
    counts: defaultdict[str, int] = defaultdict(int)
    for unique_id in results:
        counts[unique_id.split(".")[1] if unique_id.count(".") > 1 else ""] += 1
    return max(counts, key=lambda package: (counts[package], package), default="")


# The timeline.


def _span(evidence: Evidence) -> tuple[datetime | None, datetime | None]:
    """Return when the run began and ended, as far as anything tells."""
    times: list[datetime | None] = []
    for facts in evidence.commands.values():
        times += [facts.started_at, facts.finished_at]
    for result in (*evidence.tries.values(), *evidence.results.values()):
        times += [result.started_at, result.finished_at]
    known = [time for time in times if time is not None]
    return min(known, default=None), max(known, default=None)


def _since(start: datetime, time: datetime | None) -> float:
    return (time - start).total_seconds() if time is not None else 0.0


def _commands(
    evidence: Evidence, started_at: datetime | None, finished_at: datetime | None
) -> list[CommandTimeline]:
    if started_at is None or finished_at is None:
        return []
    tries: defaultdict[tuple[int, str], list[NodeResult]] = defaultdict(list)
    for key in evidence.commands:
        tries[key] = []
    for result in evidence.tries.values():
        tries[key_of(result)[:2]].append(result)
    found = []
    for key, ended in tries.items():
        facts = evidence.commands.get(key, CommandFacts())
        bars = list(_bars(ended, started_at, facts.finished_at or finished_at))
        names = {
            result.unique_id: thread
            for result in ended
            if (thread := evidence.threads.get(key_of(result))) is not None
        }
        lanes, has_threads = lanes_of(bars, names, facts.threads)
        found.append(
            CommandTimeline(
                label=facts.label,
                attempt=key[0],
                invocation_id=key[1],
                dbt_version=facts.dbt_version,
                started_at=facts.started_at,
                finished_at=facts.finished_at,
                begin=min((bar.begin for bar in bars), default=_since(started_at, facts.started_at)),
                end=max((bar.end for bar in bars), default=_since(started_at, facts.finished_at)),
                threads=facts.threads,
                has_threads=has_threads,
                lanes=lanes,
            )
        )
    found.sort(key=lambda command: (command.begin, command.attempt))
    return _labelled(found)


def _bars(results: Sequence[NodeResult], start: datetime, end: datetime) -> Iterator[Bar]:
    for result in results:
        meaning = _WORDS[statuses.meaning(result.status)]
        is_cut = result.not_run is NotRun.UNFINISHED
        if result.started_at is None or (meaning in _DID_NOTHING and not is_cut):
            continue
        finished_at = result.finished_at or end
        if finished_at < result.started_at:
            continue
        begun, over = _since(start, result.started_at), _since(start, finished_at)
        yield Bar(result.unique_id, begun, over, result.status, meaning)


def _labelled(commands: list[CommandTimeline]) -> list[CommandTimeline]:
    """Return the commands with what tells them apart as their label."""
    several = len({command.attempt for command in commands}) > 1
    of_attempt: defaultdict[int, list[CommandTimeline]] = defaultdict(list)
    for command in commands:
        of_attempt[command.attempt].append(command)
    labelled = []
    for command in commands:
        words = [command.label] if command.label else []
        if several:
            words.append(f"attempt {command.attempt}")
        siblings = of_attempt[command.attempt]
        if len(siblings) > 1 and not command.label:
            number = f"command {siblings.index(command) + 1} of {len(siblings)}"
            words.append("source freshness" if _is_check(command) else number)
        labelled.append(msgspec.structs.replace(command, label=", ".join(words) or "dbt"))
    return labelled


def _is_check(command: CommandTimeline) -> bool:
    kinds = {bar.node.partition(".")[0] for lane in command.lanes for bar in lane.bars}
    return "source" in kinds and kinds <= {"source", "operation"}
