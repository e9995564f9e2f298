"""How this package, the demo and the tests wait for something that they cannot be told of: they ask, again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from dbt_watch.exceptions import DbtWatchError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class CannotRun(DbtWatchError):
    """Something that the run needs could not be started, went away, or did not happen in time."""


def wait_for(
    condition: Callable[[], T | None], timeout: float, what: str | Callable[[], str], *, pause: float = 0.2
) -> T:
    """
    Return what the condition returns, as soon as that is true.

    :param condition: asked at least once; may raise what ends the wait
    :param timeout: seconds
    :param what: what is the matter while it is not true, such as "the DAG is not parsed"; a function is asked at the end
    :param pause: seconds between two questions
    :raises CannotRun: after the timeout, with `what`
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise CannotRun(f"{what if isinstance(what, str) else what()} after {timeout:.0f} s")
        time.sleep(pause)
    return found
