"""
Procedures that a worker and a triggerer have in common: one calls what the other awaits.

Such a procedure is a generator. It yields what is to be done next, is sent what came of it, or has the error thrown in, and
returns its result. So it is written once, reads like any other code, and knows neither threads nor an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

Step = TypeVar("Step")
Result = TypeVar("Result")


class Pause(NamedTuple):
    """A step: do nothing for so many seconds."""

    seconds: float


def run(steps: Generator[Step, Any, Result], do: Callable[[Step], Any]) -> Result:
    """
    Carry a procedure out, on a worker.

    :param steps: the procedure
    :param do: does one step, and returns what the procedure is to know of it; may raise anything
    :returns: what the procedure returns
    :raises Exception: what it does not catch
    """
    try:
        step = next(steps)
        while True:
            try:
                outcome = do(step)
            except Exception as error:  # noqa: BLE001, PERF203 - the procedure decides what it means
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result: Result = end.value
        return result


async def run_async(steps: Generator[Step, Any, Result], do: Callable[[Step], Awaitable[Any]]) -> Result:
    """Do the same in a triggerer."""
    try:
        step = next(steps)
        while True:
            try:
                outcome = await do(step)
            except Exception as error:  # noqa: BLE001, PERF203 - the procedure decides what it means
                step = steps.throw(error)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        result: Result = end.value
        return result
