"""
All errors that dbt_watch raises, as a tree, and where they are raised.

DbtWatchError          the producer's task was stopped before dbt was, or its operator ran no pod: `producers.pods.operator`,
 │                      `producers.api.operator`
 ├── ArgumentError      an argument of ours is wrong (also a ValueError): while the DAG is parsed, `authoring`, `rendering`,
 │    │                 `core`, `profiles`; what a template renders to, or a connection lacks, when the producer runs
 │    ├── ManifestError   the manifest is missing, foreign, damaged or too new: `core.manifest`
 │    └── SelectionError  a selection is invalid, or matches nothing: `core.selection`, `authoring`,
 │                      `producers.single_node`
 ├── DbtRunFailed       dbt failed: the producer's task, `producers.attempt`
 ├── PodLost            the pod did not run dbt, or was lost before dbt was done: the producer's task, `producers.pods.attempt`,
 │                      `producers.pods.command_operator`
 ├── InvocationLost     a server did not run dbt to its end: the producer's task, `producers.api.attempt`
 ├── ServerError        a dbt server does not respond, or refuses a request: `producers.api.protocol`
 └── ProjectIsBusy      dbt runs for the same project and run elsewhere: `producers.pods.project_pods`,
                        `producers.api.earlier_invocations`

Where a room's own callers catch an error, it is defined in that room: `JournalError` in `core.journal.format`, `PackedError` in
`core.packed`, `JournalLost` in `producers.journal_store`, `SupervisorError` in `airflow.supervisor`, `DagFileError` in `planning.loading`, `RecordError` in
`reporting.run_record`, `AirflowApiError` in `reporting.dag_runs`, and, for runs on one machine,
`CannotRun` in `local.airflow.waiting`, `RestError` in `local.airflow.rest` and `PreparationError` in `local.run.preparation`.
`local.localkube` imports nothing of the rest, and has errors of its own.

`authoring.parse_warnings` issues two warnings: SelectionWarning, if part of a selection matches nothing, and
ExecutorWarning, if `sensors="executor"` is not possible.

This module imports no other room, so every room may use it.
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
    An argument is invalid.

    :param argument: its name, as the caller wrote it
    :param value: what was given
    :param expected: what would have been valid, as a phrase ("a path to ...")
    :param known: valid values; the message names the nearest ones
    :param sought: what to compare `known` with, if not the value
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
    """A selection is invalid, or matches nothing."""


class SelectionWarning(UserWarning):
    """
    Part of a selection matches nothing, like a misspelt name; dbt warns about it too.

    Issued while the DAG is parsed, at the decorated function. Airflow shows it in the log of the DAG processor.
    """


class ExecutorWarning(UserWarning):
    """
    `sensors="executor"` is set, but this deployment or DAG does not allow it; the sensors start as with "auto".

    Issued while the DAG is parsed, at the decorated function. Airflow shows it in the log of the DAG processor.
    """


class DbtRunFailed(DbtWatchError):
    """The dbt process failed."""


class PodLost(DbtWatchError):
    """The pod did not run dbt, or was lost before dbt was done."""


class InvocationLost(DbtWatchError):
    """A server did not run dbt to its end: it was aborted, its worker died, or the server no longer knows it."""


class ServerError(DbtWatchError):
    """
    A dbt server does not respond, or refuses a request.

    :param status: the HTTP status of its last response; None if there was none
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class ProjectIsBusy(DbtWatchError):
    """dbt is running elsewhere for this project and DAG run, and must not run twice; try again later."""


def did_you_mean(sought: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests similar names; empty if there are none."""
    near = difflib.get_close_matches(sought, list(known), n=3)
    names = ", ".join(name if name.isprintable() else repr(name) for name in near)
    return f"; did you mean {names}?" if near else ""


def _shown(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
