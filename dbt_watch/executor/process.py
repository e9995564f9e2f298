"""
The watching process: `python -m dbt_watch.executor.process FD URL`, begun by the scheduler's part and ended with it.

:param FD: the number of the socket on which orders come and reports go
:param URL: where the execution API is
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from dbt_watch.airflow.configuration import heartbeat_timeout
from dbt_watch.airflow.execution_api import ExecutionApi
from dbt_watch.airflow.task_logs import are_kept_elsewhere
from dbt_watch.executor.messages import Alive, encoded, order_in
from dbt_watch.executor.watcher import Watcher, WatcherPace

if TYPE_CHECKING:
    from dbt_watch.executor.messages import Report

log = logging.getLogger(__name__)

# In seconds.
ALIVE_EVERY: Final = 5.0
# In bytes: the order for a sensor names its nodes.
_LONGEST_ORDER: Final = 1 << 26
# Of the ends of tasks. An api-server has one process by default, so more would only make all of them wait for each other.
_TOLD_AT_ONCE: Final = 4
# A task is given up by Airflow after so many heartbeats that it has missed.
_HEARTBEATS: Final = 6


def main() -> None:
    """Watch until the scheduler's part goes away."""
    # Ctrl-C reaches all processes of a terminal. This one goes when it is not needed any more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    are_kept_elsewhere()  # takes a while the first time
    descriptor, url = sys.argv[1:]
    code = 0
    try:
        # What is under way at its end is of no use to anybody: another process begins anew with it.
        asyncio.new_event_loop().run_until_complete(watch(socket.socket(fileno=int(descriptor)), url))
    except Exception:
        log.exception("Watching dbt nodes failed")
        code = 1
    os._exit(code)


async def watch(connection: socket.socket, url: str) -> None:
    """
    Do what orders say, until the connection ends.

    :param connection: where they come from
    :param url: where the execution API is
    :raises Exception: whatever goes wrong with the watching as a whole
    """
    parent = os.getppid()
    reader, writer = await asyncio.open_connection(sock=connection, limit=_LONGEST_ORDER)

    def report(message: Report) -> None:
        writer.write(encoded(message))

    pace = WatcherPace(heartbeat=heartbeat_timeout() / _HEARTBEATS)
    watcher = Watcher(ExecutionApi(url), ExecutionApi(url, at_once=_TOLD_AT_ONCE), report, pace)
    work = (_obey(reader, watcher), watcher.keep_alive(), _say_alive(writer, parent))
    tasks = {asyncio.ensure_future(one) for one in work}
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _obey(reader: asyncio.StreamReader, watcher: Watcher) -> None:
    try:
        while line := await reader.readline():
            watcher.take(order_in(line))
    except ConnectionError:
        return


async def _say_alive(writer: asyncio.StreamWriter, parent: int) -> None:
    # The scheduler's other children may hold on to its end of the connection, and it may have ended all the same.
    while not writer.is_closing() and os.getppid() == parent:
        writer.write(encoded(Alive()))
        await asyncio.sleep(ALIVE_EVERY)


if __name__ == "__main__":
    main()
