"""
Writes the journal to XCom, on a worker and in a triggerer.

The task, or the trigger that stands in for it, calls it between two pieces of the log. `core.journal.writer.Publication` says
what to write, when, and what to do when that fails. A write that fails never fails a build: the changes wait in the
`JournalWriter` and go out with the next one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from dbt_watch.core.journal.writer import CLOSE_TIMEOUT_S
from dbt_watch.core.steps import Pause, run, run_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dbt_watch.core.journal.writer import Publication, Value, Write


class JournalPublisher:
    """
    Writes one attempt's journal, on a worker. Never raises on account of the writing.

    :param publication: what is to be written
    :param push: stores an XCom under a key; may raise anything
    """

    def __init__(
        self,
        publication: Publication,
        push: Callable[[str, Value], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._publication = publication
        self._push = push
        self._sleep = sleep

    def give_up(self) -> None:
        """Tell from now on that no other attempt follows."""
        self._publication.give_up()

    def flush(self) -> bool:
        """Write all that waits, due or not; return whether that has worked."""
        return run(self._publication.flush(), self._do)

    def write(self) -> None:
        """Write what is due."""
        run(self._publication.write(), self._do)

    def finish(self, patience: float = CLOSE_TIMEOUT_S) -> bool:
        """
        Write all that is left, trying again for a while.

        :param patience: seconds
        :returns: whether the whole journal is written
        """
        return run(self._publication.finish(patience), self._do)

    def _do(self, step: Write | Pause) -> None:
        if isinstance(step, Pause):
            self._sleep(step.seconds)
        else:
            self._push(step.key, step.value)


class AsyncJournalPublisher:
    """
    The same in a triggerer.

    :param publication: what is to be written
    :param push: stores an XCom under a key; may raise anything
    """

    def __init__(self, publication: Publication, push: Callable[[str, Value], Awaitable[None]]) -> None:
        self._publication = publication
        self._push = push

    def give_up(self) -> None:
        """Tell from now on that no other attempt follows."""
        self._publication.give_up()

    async def write(self) -> None:
        """Write what is due."""
        await run_async(self._publication.write(), self._do)

    async def finish(self, patience: float = CLOSE_TIMEOUT_S) -> bool:
        """
        Write all that is left, trying again for a while.

        :param patience: seconds
        :returns: whether the whole journal is written
        """
        return await run_async(self._publication.finish(patience), self._do)

    async def _do(self, step: Write | Pause) -> None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        else:
            await self._push(step.key, step.value)
