"""
Every error that dbt_watch raises, in one tree, and who raises it.

DbtWatchError          the producer's task was stopped before dbt was, or its operator ran no pod: `producers.pods.operator`,
 │                      `producers.api.operator`
 ├── ArgumentError      an argument of ours is wrong (also a ValueError): while the DAG is parsed, `authoring`, `rendering`,
 │    │                 `core`, `profiles`; what a template renders to, or a connection lacks, when the producer runs
 │    ├── ManifestError   the manifest is missing, foreign, damaged or too new: `core.manifest`
 │    └── SelectionError  a selection cannot be understood, or matches nothing: `core.selection`, `authoring`,
 │                      `producers.single_node`
 ├── DbtRunFailed       dbt ended, and not well: the producer's task, `producers.attempt`
 ├── PodLost            the pod did not run dbt, or went away before dbt was done: likewise, `producers.pods.attempt`,
 │                      `producers.pods.command_operator`
 ├── InvocationLost     a server did not run dbt to its end: likewise, `producers.api.attempt`
 ├── ServerError        a server of dbt does not answer, or refuses what it is asked: `producers.api.protocol`
 └── ProjectIsBusy      dbt runs for the same project and run elsewhere: `producers.pods.project_pods`,
                        `producers.api.earlier_invocations`

Where a room's own callers catch an error, it is defined in that room: `JournalError` in `core.journal.format`, `PackedError` in
`core.packed`, `JournalLost` in `producers.journal_store`, `SupervisorError` in `airflow.supervisor`, `DagFileError` in `planning.loading`, `RecordError` in
`reporting.run_record`, `AirflowApiError` in `reporting.dag_runs`, and, for runs on one machine,
`CannotRun` in `local.airflow.waiting`, `RestError` in `local.airflow.rest` and `PreparationError` in `local.run.preparation`.
`local.localkube` imports nothing of the rest, and has errors of its own.

Two warnings, issued by `authoring.parse_warnings`: SelectionWarning, where a part of a selection matches nothing, and
ExecutorWarning, where `sensors="executor"` cannot be had.

This module imports nothing, so every room may use it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class DbtWatchError(Exception):
    """The root of all errors that dbt_watch raises on purpose."""


class ArgumentError(DbtWatchError, ValueError):
    """
    An argument is wrong.

    :param argument: its name, as the caller wrote it
    :param value: what was given
    :param expected: what would have been right, as a phrase ("a path to ...")
    :param known: valid values; the nearest ones are named in the message
    :param sought: what `known` is compared with, if not the value
    """

    def __init__(
        self,
        argument: str,
        value: object,
        expected: str,
        *,
        known: Iterable[str] = (),
        sought: str | None = None,
    ) -> None:
        self.argument = argument
        self.value = value
        self.expected = expected
        text = f"{argument}={_shown(value)}: expected {expected}"
        super().__init__(text + did_you_mean(sought or str(value), known))


class ManifestError(ArgumentError):
    """The manifest is missing, foreign, damaged or of an unknown version."""


class SelectionError(ArgumentError):
    """A selection cannot be understood, or matches nothing."""


class SelectionWarning(UserWarning):
    """
    A part of a selection matches nothing, as a misspelt name does; dbt warns of it too.

    Warned while the DAG is parsed, at the decorated function. Airflow shows it in the log of the DAG processor.
    """


class ExecutorWarning(UserWarning):
    """
    `sensors="executor"` is asked for, and this deployment or this DAG does not allow it; the sensors start as with "auto".

    Warned while the DAG is parsed, at the decorated function. Airflow shows it in the log of the DAG processor.
    """


class DbtRunFailed(DbtWatchError):
    """The process of dbt ended, and not well."""


class PodLost(DbtWatchError):
    """The pod did not run dbt, or went away before dbt was done."""


class InvocationLost(DbtWatchError):
    """A server did not run dbt to its end: it was aborted, its worker died, or the server does not know of it any more."""


class ServerError(DbtWatchError):
    """
    A server of dbt does not answer, or refuses what it is asked.

    :param status: of its last answer, as HTTP has it; None when there was none
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ProjectIsBusy(DbtWatchError):
    """For this project and DAG run dbt runs elsewhere, and must not run twice; it may be tried later."""


def did_you_mean(sought: str, known: Iterable[str]) -> str:
    """Return the end of a message that names what is near; empty when nothing is."""
    near = difflib.get_close_matches(sought, list(known), n=3)
    names = ", ".join(name if name.isprintable() else repr(name) for name in near)
    return f"; did you mean {names}?" if near else ""


def _shown(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
