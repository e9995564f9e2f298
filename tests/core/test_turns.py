"""Who goes on when only a few may at a time."""

import asyncio

import pytest
from virtual_time import run

from dbt_watch.core.turns import Turns


class Work:
    """Coroutines that each take a second in their turn, and what is seen of them."""

    def __init__(self, count):
        self.turns = Turns(count)
        self.begun = []
        self.inside = self.most = 0

    async def one(self, name, urgency=0):
        async with self.turns.turn(urgency):
            self.begun.append(name)
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(1)
            self.inside -= 1

    def start(self, name, urgency=0):
        return asyncio.create_task(self.one(name, urgency))


def test_so_many_go_on_at_a_time_and_the_others_one_after_the_other():
    work = Work(2)

    async def scene():
        await asyncio.gather(*(work.one(number) for number in range(7)))
        return asyncio.get_running_loop().time()

    assert run(scene()) == pytest.approx(4)
    assert (work.begun, work.most) == ([*range(7)], 2)


def test_of_those_that_wait_the_most_urgent_comes_next_and_the_first_of_equals():
    work = Work(1)

    async def scene():
        await asyncio.gather(*(work.one(name, int(name[0])) for name in ("0a", "0b", "2a", "1a", "2b", "0c")))

    run(scene())
    assert work.begun == ["0a", "2a", "2b", "1a", "0b", "0c"]


@pytest.mark.parametrize("has_come", [False, True])
def test_a_turn_that_is_given_up_is_another_ones(has_come):
    """Given up while another has it; and when it has come, but before anything is done with it."""
    work = Work(1)

    async def first():
        async with work.turns.turn(0):
            await asyncio.sleep(1)
        if has_come:
            second.cancel()

    async def scene():
        nonlocal second
        one, second, third = asyncio.create_task(first()), work.start("b"), work.start("c")
        await asyncio.sleep(0.5)
        if not has_come:
            second.cancel()
        await asyncio.gather(one, third)
        assert second.cancelled()
        return asyncio.get_running_loop().time()

    second = None
    assert run(scene()) == pytest.approx(2)
    assert work.begun == ["c"]


def test_a_turn_ends_with_an_error_too():
    turns = Turns(1)

    async def scene():
        with pytest.raises(ValueError, match="no"):
            async with turns.turn(0):
                raise ValueError("no")
        async with turns.turn(0):
            return True

    assert run(scene())
