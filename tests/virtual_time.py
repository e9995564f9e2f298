"""An event loop whose clock goes on by itself as soon as everybody waits: a scene of minutes takes no time, on any machine."""

import asyncio
import selectors


class Clock(selectors.SelectSelector):
    """What an event loop waits with. It does not wait: its time is at once what it waited for."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        assert timeout is not None, "everybody waits for ever"
        self.now += max(0.0, timeout)
        return super().select(0)


def run(scene, limit=100.0):
    """Do with a scene as `asyncio.run` does, on such a clock; within so many of its seconds."""
    clock = Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now
    try:
        return loop.run_until_complete(asyncio.wait_for(scene, limit))
    finally:
        loop.run_until_complete(cancelled(asyncio.all_tasks(loop)))
        loop.close()


async def cancelled(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
