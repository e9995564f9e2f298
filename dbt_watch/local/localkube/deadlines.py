"""Waiting with an end to it: a moment that may come earlier than was said, and the first of several things. For `containers` and `kubelet`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


class Deadline:
    """A moment that may be moved forward; `None` seconds stands for never."""

    def __init__(self, seconds: float) -> None:
        self._moved = asyncio.Event()
        self.at = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """How many seconds there are, not below zero."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    def shorten(self, seconds: float) -> None:
        """Move it to so many seconds from now, unless it is nearer already."""
        at = asyncio.get_running_loop().time() + seconds
        if at < self.at:
            self.at = at
            self._moved.set()
            self._moved = asyncio.Event()

    async def reached(self) -> None:
        """Wait for it."""
        while self.left:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._moved.wait(), self.left)


async def first(*awaitables: Any) -> None:
    """Wait for one of several; the others are cancelled, except for futures that the caller holds."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, awaitable in zip(tasks, awaitables, strict=True):
            if task is not awaitable:
                task.cancel()
