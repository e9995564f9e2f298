"""
The first process of a worker's container, as `dumb-init` is in Airflow's image: it runs a command and hands signals on to it.

A process without a handler of its own for SIGTERM would not hear it as the first one of its container.
"""

import os
import signal
import sys

child = os.fork()
if child == 0:
    os.setsid()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the purpose of this program

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, lambda number, _: os.killpg(child, number))
while True:
    ended, status = os.wait()
    if ended == child:
        sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
