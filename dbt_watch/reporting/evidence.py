"""
What one source tells of a run, before it is put together: `Evidence`.

`reporting.sources` and `reporting.dag_runs` make it, `reporting.assembly` makes a `RunRecord` of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.results import NOT_DUE, NodeResult
from dbt_watch.reporting.run_record import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

TryKey = tuple[int, str, str]
"""A try of a node: the attempt, dbt's invocation_id, the unique_id."""


class CommandFacts(msgspec.Struct, kw_only=True):
    """
    What is known of one dbt command beside its nodes.

    :param label: what to call it; empty where its attempt says enough
    :param started_at: when dbt began
    :param threads: how many threads it was to use
    """

    label: str = ""
    dbt_version: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    threads: int | None = None


class Evidence(msgspec.Struct, kw_only=True):
    """
    What one source tells of a run.

    :param source: where it comes from, in words
    :param outcome: how the run ended
    :param results: the last word on each node
    :param tries: how each try of a node ended, earlier commands and attempts included
    :param threads: the thread of dbt that a try ran in, where that is known
    :param commands: by attempt and invocation_id
    :param why: why dbt stopped early, where it did
    :param notes: what is not known, and why
    """

    source: str
    outcome: Outcome
    results: dict[str, NodeResult]
    tries: dict[TryKey, NodeResult]
    threads: dict[TryKey, str] = {}
    commands: dict[tuple[int, str], CommandFacts] = {}
    why: str = ""
    notes: tuple[str, ...] = ()


def key_of(result: NodeResult) -> TryKey:
    """Return which try of a node a result is about."""
    return result.attempt, result.invocation_id or "", result.unique_id


def threads_of(tries: Mapping[TryKey, NodeResult]) -> dict[TryKey, str]:
    """Return the thread that each try ran in, where its result tells."""
    return {key: result.thread for key, result in tries.items() if result.thread is not None}


def of_attempts(attempts: list[Evidence], source: str) -> Evidence:
    """
    Return the attempts of a run as one.

    :param attempts: in the order of time; a later one has the last word on a node, unless dbt did not get to it
    :param source: where they come from, in words
    """
    return _merged(attempts, source, attempts[-1])


def of_pods(pods: list[Evidence], source: str) -> Evidence:
    """Return what the pods of one project tell as one, in which the worst end counts; as `of_attempts`."""
    return _merged(pods, source, min(pods, key=lambda pod: _WORST_FIRST.index(pod.outcome)))


def with_later(evidence: Evidence, left: dict[str, NodeResult]) -> Evidence:
    """
    Return what a journal tells with what the tasks of nodes have left, where that is of another attempt or of later.

    :param evidence: what the journal tells
    :param left: what tasks have left, of some nodes
    """
    results, built_again = dict(evidence.results), []
    for unique_id, result in left.items():
        known = results.get(unique_id)
        if known is None:
            results[unique_id] = result
        elif result.finished_at is not None and (
            known.finished_at is None or result.finished_at > known.finished_at
        ):
            results[unique_id] = result
            built_again.append(result.label)
    outcome, why, notes = evidence.outcome, evidence.why, list(evidence.notes)
    if built_again:
        notes.append(f"built again on their own, after the dbt run: {', '.join(sorted(built_again))}")
    if built_again and outcome in _BAD and all(_is_well(result) for result in results.values()):
        outcome, why = "success", ""
    tries = {key_of(result): result for result in left.values() if result.started_at is not None}
    return msgspec.structs.replace(
        evidence,
        results=results,
        tries={**tries, **evidence.tries},
        threads={**threads_of(tries), **evidence.threads},
        outcome=outcome,
        why=why,
        notes=tuple(notes),
    )


_BAD: Final = frozenset({"failure", "error"})


def _is_well(result: NodeResult) -> bool:
    return result.is_success or result.is_warning or result.not_run in NOT_DUE


_WORST_FIRST: Final[tuple[Outcome, ...]] = ("error", "failure", "unfinished", "success")


def _merged(parts: list[Evidence], source: str, decisive: Evidence) -> Evidence:
    results: dict[str, NodeResult] = {}
    for part in parts:
        for unique_id, result in part.results.items():
            if unique_id not in results or not result.was_not_run:
                results[unique_id] = result
    return Evidence(
        source=source,
        outcome=decisive.outcome,
        results=results,
        tries={key: result for part in parts for key, result in part.tries.items()},
        threads={key: name for part in parts for key, name in part.threads.items()},
        commands={key: facts for part in parts for key, facts in part.commands.items()},
        why=decisive.why,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
