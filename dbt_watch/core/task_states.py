"""
The states that Airflow gives a task, by name, and what each set of them means here.

Airflow has them in `airflow.sdk.api.datamodels` and `airflow.utils.state`, but the core decides by them without Airflow. A
task that nobody has scheduled yet has none: None.
"""

from __future__ import annotations

from typing import Final

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
RUNNING: Final = "running"
DEFERRED: Final = "deferred"
UP_FOR_RETRY: Final = "up_for_retry"
RESTARTING: Final = "restarting"
SUCCESS: Final = "success"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
UPSTREAM_FAILED: Final = "upstream_failed"
REMOVED: Final = "removed"

RAN: Final = frozenset({SUCCESS, FAILED})
"""The task has ended, and has run before that or was marked so by a person."""

NEVER_RUNS: Final = frozenset({SKIPPED, UPSTREAM_FAILED, REMOVED})
"""The task has ended without having run in this try."""

OVER: Final = RAN | NEVER_RUNS
"""The task has ended; only a clear changes its state again."""

RED: Final = frozenset({FAILED, UPSTREAM_FAILED})
"""The task has ended, and what comes after it must not go on as if it had ended well."""

ABOUT_TO_RUN: Final = frozenset({SCHEDULED, QUEUED, UP_FOR_RETRY})
"""The next state is `RUNNING`, for all that is known, and so a worker is going to need a moment to start."""

CALLED_OFF: Final = OVER | {RESTARTING}
"""
The task is not to go on, though its code still runs: a person has marked or cleared it, or its DAG run has timed out.

In any other state, another try takes over what this one leaves.
"""

JOURNAL_IS_CURRENT: Final = RAN | {RUNNING, DEFERRED, UP_FOR_RETRY}
"""
What lies in the task's XComs is from this try, or from the last one if it has just begun.

In any other state a journal may still be there, left by a run that has been cleared since.
"""
