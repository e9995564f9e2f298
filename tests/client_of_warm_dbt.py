"""
What the program `dbt` is in the images of the tests: a fork of `warm_dbt.py` runs it in this pod, and this ends as that does.

It runs without `site`, and so starts in no time. Where nobody answers, or cannot come into this pod, it starts dbt itself.
"""

import json
import os
import signal
import socket
import sys

SOCKET = "/run/warm_dbt/socket"
COLD = "import sys; from dbt.cli.main import cli; sys.argv[0] = 'dbt'; sys.exit(cli())"


def main():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Not `Path`, whose import would take longer than all of this.
    asked = {"arguments": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}  # noqa: PTH109
    # An interrupt is for the dbt that there is then.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        connection.connect(SOCKET)
        socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
    except OSError:
        become_dbt()
    # Any other signal does what it does to dbt: it ends this, and dbt with it, or nothing to the first process of a container.
    signal.signal(signal.SIGINT, lambda number, _: connection.send(str(int(number)).encode()))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    answer = connection.recv(16)
    if answer == b"refused":
        become_dbt()
    code = int(answer or -signal.SIGKILL)
    if code >= 0:
        return code
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code  # the first process of a container has outlived that


def become_dbt():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.execv(sys.executable, [sys.executable, "-c", COLD, *sys.argv[1:]])  # noqa: S606 - the same Python, with all that it has


sys.exit(main())
