"""
A dbt that is imported once for many pods: two thirds of what a small build computes are imports, and what dbt compiles at first use.

The fixture `warm_dbt` starts this program, which imports dbt and waits. In the image, the place of the program `dbt` is taken by
`client_of_warm_dbt.py`. It hands its arguments, its environment and its streams over to a fork of this process, which enters the
namespaces of the one that asks. So it is the real dbt that runs, in the pod: it sees the pod's files, gets the SIGINT that was
meant for it, and ends with the pod.

Usage: python -I warm_dbt.py SOCKET
"""

import contextlib
import ctypes
import gc
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import tempfile

import dbt.adapters.duckdb
import dbt.adapters.postgres  # noqa: F401 - dbt would import both late
from dbt.cli.main import cli

from dbt_watch.server.worker.fork_server import compile_ahead

# Those of mounts, of the host name, of IPC and of processes.
NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000
USER_NAMESPACE = 0x10000000
LARGEST_REQUEST = 1 << 20


def main(path):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        # It is there for others when somebody listens.
        server.bind(f"{path}.draft")
        compile_ahead()
        server.listen(64)
        os.rename(f"{path}.draft", path)  # noqa: PTH104 - the path of a socket
        gc.freeze()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                attend(connection)
                return
            connection.close()


def attend(connection):
    """Run dbt for one that asks, pass its signals on, and tell it how dbt has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, *_ = socket.recv_fds(connection, LARGEST_REQUEST, 3)
    asking, *_ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        enter_namespaces(asking)
    except OSError:
        connection.send(b"refused")
        raise
    pid = os.fork()
    if pid == 0:
        connection.close()
        run(json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(pid)
    while ended not in select.select([connection, ended], [], [])[0]:
        # One that asked and is gone was killed.
        os.kill(pid, int(connection.recv(16) or signal.SIGKILL))
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def enter_namespaces(pid):
    """Enter those of a process: the next fork is in its PID namespace."""
    theirs = os.pidfd_open(pid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(theirs, NAMESPACES if os.getuid() == 0 else NAMESPACES | USER_NAMESPACE) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(theirs)


def run(asked, streams):
    """Become the dbt that was asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["directory"])
    random.seed()
    tempfile.tempdir = None
    sys.argv = ["dbt", *asked["arguments"]]
    sys.exit(cli())


if __name__ == "__main__":
    main(sys.argv[1])
