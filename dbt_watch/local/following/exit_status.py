"""How a command that starts a cluster and an Airflow ends, whatever comes between. Used by `demo` and `run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import httpx

from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.local.airflow.processes import Interrupted, interrupts_raised

if TYPE_CHECKING:
    from collections.abc import Callable

CANNOT_RUN: Final = 2


def exit_status(
    command: str, work: Callable[[], int], *, explained: tuple[type[DbtWatchError], ...] = ()
) -> int:
    """
    Do the work of a command, and say on standard error what kept it from being done.

    :param command: its name, which goes in front
    :param work: returns 0 when the run succeeded, and 1 when it failed
    :param explained: the errors, beside those of arguments, whose text needs nothing in front
    :returns: the same, 2 when it could not run, and 128 + n after signal n
    """
    as_told: tuple[type[DbtWatchError], ...] = (ArgumentError, *explained)
    try:
        with interrupts_raised():
            return work()
    except Interrupted as interrupt:
        told, status = "interrupted; everything it started has been stopped", 128 + interrupt.signum
    except as_told as error:
        told, status = str(error), CANNOT_RUN
    except (DbtWatchError, httpx.HTTPError, OSError) as error:
        told, status = f"could not run: {error}", CANNOT_RUN
    sys.stderr.write(f"{command}: {told}\n")
    return status
