"""
The changes of a run as server-sent events. `page.routes.data` sends them.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dbt_watch.page.readers import SharedReader

# In seconds.
STREAM_FOR: Final = 25.0
"""How long a stream lasts: then the viewer asks again, with what it has, and Airflow looks again who it is."""
SIGN_OF_LIFE: Final = 10.0
"""After how long without a change a comment is sent."""
LOOK_EVERY: Final = 1.0


async def events(reader: SharedReader, since: int) -> AsyncIterator[bytes]:
    """
    Yield the changes since a version, as they come.

    :param reader: knows of them
    :param since: the version that the viewer has
    """
    ends_at = time.monotonic() + STREAM_FOR
    said_at = time.monotonic()
    was_over = False
    yield b"retry: 1000\n\n"
    while True:
        if reader.version != since:
            yield _event("change", reader.version, reader.changes(since))
            since, said_at = reader.version, time.monotonic()
        elif time.monotonic() - said_at >= SIGN_OF_LIFE:
            yield b": no news\n\n"
            said_at = time.monotonic()
        if reader.is_over and not was_over:
            yield _event("over", reader.version, b"{}")
        was_over = reader.is_over
        if time.monotonic() >= ends_at:
            return
        await asyncio.sleep(LOOK_EVERY)
        await reader.refresh()


def _event(name: str, version: int, data: bytes) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (name.encode(), version, data)
