"""Procedures that are carried out by calls or by awaits."""

import asyncio

import pytest

from dbt_watch.core.steps import run, run_async


def run_in_a_loop(steps, do):
    async def do_later(step):
        await asyncio.sleep(0)
        return do(step)

    return asyncio.run(run_async(steps, do_later))


both = pytest.mark.parametrize("carry_out", [run, run_in_a_loop])


@both
def test_a_procedure_is_told_what_came_of_each_step_and_returns_its_result(carry_out):
    def sums():
        first = yield 2
        second = yield first
        return first + second

    assert carry_out(sums(), lambda step: step * 10) == 220


@both
def test_a_procedure_without_steps_returns_its_result(carry_out):
    def nothing():
        yield from ()
        return "done"

    assert carry_out(nothing(), lambda _: pytest.fail("there is no step")) == "done"


@both
def test_an_error_of_a_step_can_be_caught_where_the_step_was_asked_for(carry_out):
    def again():
        for number in range(5):
            try:
                return (yield number)
            except ConnectionError:  # noqa: PERF203 - that is the point
                continue
        return None

    def do(step):
        if step < 3:
            raise ConnectionError
        return step

    assert carry_out(again(), do) == 3


@both
def test_an_error_that_a_procedure_does_not_catch_comes_out(carry_out):
    ended = []

    def careless():
        try:
            yield 1
        finally:
            ended.append(True)

    def do(_):
        raise ConnectionError("away")

    with pytest.raises(ConnectionError, match="away"):
        carry_out(careless(), do)
    assert ended


def test_whoever_is_asked_to_end_meanwhile_ends():
    def waiting():
        try:
            yield 1
        except Exception:  # noqa: BLE001 - that is the point
            pytest.fail("to be asked to end is no failure of a step")

    def do(_):
        raise SystemExit

    with pytest.raises(SystemExit):
        run(waiting(), do)

    async def cancelled():
        task = asyncio.ensure_future(run_async(waiting(), lambda _: asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
