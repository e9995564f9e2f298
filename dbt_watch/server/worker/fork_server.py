"""
Forks dbt from a process that has imported it: the script that `worker.warm` runs in the interpreter of a project's dbt.

That interpreter has dbt, and need not have anything of this library, so this file imports nothing but the standard library and is
understood by every Python that dbt 1.8 runs on (3.8 and later). It needs Linux.

Three processes take part in an invocation. This one imports dbt, takes requests, and does nothing else, so that it has no thread,
no connection and no state of a project that a fork could inherit. For each request it forks a keeper, which forks dbt, waits for
the end of dbt, and ends dbt when the worker goes away; the kernel ends dbt when the keeper goes away. Neither needs the first
process any more, so that its death ends no dbt.

What a worker and a keeper say to each other, on a stream of their own:

1. The worker sends a request, with its length in front: a JSON object of `arguments`, `environment` and `directory`.
2. The keeper forks dbt, which waits, and sends its number and an end of line. Up to here, the worker may go away and start dbt in
   another way, since nothing has run.
3. The worker sends `g`, and dbt begins. Later it may send `i` for SIGINT, and `k` for SIGKILL to dbt and all that it started.
4. The keeper sends dbt's exit code, negative for a signal, and an end of line, when dbt has ended.
5. The worker closes its side. The keeper ends what is left of dbt, lets go of its number, and ends.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import struct
import sys
import types
from typing import Any

READY = b"ready\n"
"""What is written to standard output when requests are taken."""

THREADS = 3
"""The exit code when the imports have started threads: a fork would have the locks of these, and not the threads."""

LENGTH = struct.Struct("!I")
"""What stands in front of a request."""

# What dbt would import in the course of a run. Not every version has each.
_MODULES = (
    "dbt.task.build",
    "dbt.task.list",
    "dbt.task.retry",
    "dbt.task.show",
    "dbt.task.docs.generate",
    "dbt.adapters.factory",
    "agate",
)
# What dbt checks the files of every project against; the credentials of the adapters come on top.
_CHECKED = (
    "dbt.contracts.project.Configuration",
    "dbt.contracts.project.PackageConfig",
    "dbt.contracts.project.ProfileConfig",
    "dbt.contracts.project.Project",
    "dbt.contracts.project.ProjectFlags",
    "dbt.contracts.selection.SelectorFile",
    "dbt.task.test.TestResultData",
)
# In which dbt finds macros.
_BLOCKS = ("macro", "materialization", "test", "data_test")
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def main() -> str:
    """
    Take requests; return in each process that is to be dbt, with the script that it is to run.

    The arguments are the descriptor of the channel, the console script of dbt, and the adapters to import.
    """
    channel = socket.socket(fileno=int(sys.argv[1]))
    script, adapters = sys.argv[2], sys.argv[3:]
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120 - as Python sets it
        # Where Python looks first is beside the script that it runs.
        sys.path[0] = os.path.dirname(os.path.realpath(script))  # noqa: PTH120
    importlib.import_module("dbt.cli.main")
    for name in (*_MODULES, *(f"dbt.adapters.{adapter}" for adapter in adapters)):
        # What cannot be imported is for dbt to say, if it needs it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    compile_ahead()
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        sys.exit(THREADS)
    before = _installed(script)
    # The collector would write to each object, and so copy its page in each fork.
    gc.collect()
    gc.freeze()
    os.write(1, READY)
    os.dup2(0, 1)
    while True:
        descriptors = take(channel)
        if _installed(script) != before:
            # The worker finds its request unanswered; a new process imports what is there now.
            os._exit(0)
        if len(descriptors) != 2:  # noqa: PLR2004 - the stream, and where dbt writes
            continue
        keeper = os.fork()
        if not keeper:
            channel.close()
            _keep(socket.socket(fileno=descriptors[0]), descriptors[1], script)
            return script
        for descriptor in descriptors:
            os.close(descriptor)
        # Keepers that have ended since.
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def compile_ahead() -> None:
    """
    Compile what dbt compiles when it first needs it: how its classes are read and written, the schemas of its files, its macros.

    That depends on the versions of dbt and its adapters alone, and takes a small invocation most of a second. No project is read, and
    nothing of a run is made. What cannot be compiled here is left to the invocation.
    """
    with contextlib.suppress(Exception):
        for cls in _subclasses(_named("dbt_common.dataclass_schema.dbtClassMixin")):
            # Each fails for want of a value as soon as the method is compiled.
            for call in (_read, _write, _unpack):
                with contextlib.suppress(Exception):
                    call(cls)
        # Python looks for the file of each module that is imported, once.
        inspect.stack()
    with contextlib.suppress(Exception):
        # Brings in the names of days and months.
        _named("dbt_common.clients.agate_helper.build_type_tester")(())
    with contextlib.suppress(Exception):
        for cls in _subclasses(_named("dbt.adapters.contracts.connection.Credentials")):
            cls.json_schema()
    for name in _CHECKED:
        with contextlib.suppress(Exception):
            _named(name).json_schema()
    with contextlib.suppress(Exception):
        _compile_macros()


def _compile_macros() -> None:
    """Compile the macros that come with dbt and with the adapters that are imported, into dbt's own cache of them."""
    jinja = importlib.import_module("dbt_common.clients.jinja")
    packages = [module for name, module in sys.modules.items() if name.startswith("dbt.include.")]
    for path in (path for package in packages for path in pathlib.Path(package.PACKAGE_PATH).rglob("*.sql")):
        with contextlib.suppress(Exception):
            # As dbt reads it, which finds a compiled macro by its text.
            text = path.read_text(encoding="utf-8").strip()
            for block in jinja.extract_toplevel_blocks(text, set(_BLOCKS), collect_raw_data=False):
                jinja.template_cache.get_node_template(types.SimpleNamespace(macro_sql=block.full_block))


def _named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _subclasses(cls: Any) -> list[Any]:
    found: dict[Any, None] = {}
    waiting = [cls]
    while waiting:
        more = [one for one in waiting.pop().__subclasses__() if one not in found]
        found.update(dict.fromkeys(more))
        waiting.extend(more)
    return list(found)


def _read(cls: Any) -> None:
    cls.from_dict(None)


def _write(cls: Any) -> None:
    cls.__new__(cls).to_dict(omit_none=True)


def _unpack(cls: Any) -> None:
    cls.from_msgpack(b"\xc0")  # null


def _installed(script: str) -> list[tuple[str, int, int]]:
    """Return what is another when dbt, or something that it imports, has been installed anew."""
    found = []
    for place in (script, *sys.path):
        with contextlib.suppress(OSError):
            status = os.stat(place)  # noqa: PTH116
            found.append((place, status.st_ino, status.st_mtime_ns))
    return found


def take(channel: socket.socket) -> list[int]:
    """Return the descriptors of the next request: the stream to its worker, and where dbt writes."""
    numbers = array.array("i")
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(2 * numbers.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return list(numbers)


def _keep(stream: socket.socket, output: int, script: str) -> None:
    """Fork dbt and stay until the worker is done with it; return in dbt."""
    keeper, pid = os.getpid(), -1
    try:
        os.setsid()
        request = _request(stream)
        if request["arguments"][0] == script:
            begins, begin = os.pipe()
            pid = os.fork()
            if pid:
                os.close(output)
                os.close(begins)
                _tend(stream, pid, begin)
    except OSError:
        # The worker has gone. The end of this process is the end of dbt.
        pass
    if pid:
        os._exit(0)
    stream.close()
    os.close(begin)
    _become_dbt(request, output, begins, keeper)


def _request(stream: socket.socket) -> dict[str, Any]:
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    request: dict[str, Any] = json.loads(_exactly(stream, length))
    return request


def _exactly(stream: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


def _become_dbt(request: dict[str, Any], output: int, begins: int, keeper: int) -> None:
    """Let this process be as one that was started as the program is, and wait until it may begin."""
    os.setsid()
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != keeper or os.read(begins, 1) != b"g":
        os._exit(1)
    prctl(_PR_SET_NAME, os.path.basename(request["arguments"][0]).encode()[:15])  # noqa: PTH119
    os.close(begins)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    # Python's own generator has a new seed in a fork; this one has not.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _tend(stream: socket.socket, pid: int, begin: int) -> None:
    """Do to dbt what the worker asks for, and tell it how dbt ended; return when the worker has gone, and dbt too."""
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    stream.sendall(b"%d\n" % pid)
    has_told = False
    while True:
        has_told = has_told or _tell_end(stream, pid, os.WNOHANG)
        ready = select.select([stream, woken], [], [])[0]
        if woken in ready:
            woken.recv(64)
        if stream not in ready:
            continue
        asked = _asked(stream)
        if asked == b"g":
            os.write(begin, asked)
        elif asked == b"i":
            os.kill(pid, signal.SIGINT)
        else:
            # It may not lead a group yet.
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if not asked:
                break
    if not has_told:
        _tell_end(stream, pid, 0)
    os.waitpid(pid, 0)


def _asked(stream: socket.socket) -> bytes:
    try:
        return stream.recv(1)
    except ConnectionError:
        return b""


def _tell_end(stream: socket.socket, pid: int, flags: int) -> bool:
    """Report the exit code of dbt if it has ended, without reaping it; return whether it has."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | flags)
    if ended is None:
        return False
    code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    with contextlib.suppress(ConnectionError):
        stream.sendall(b"%d\n" % code)
    return True


if __name__ == "__main__":
    # On the level of the module, and in the script itself, so that dbt ends as the program does: with its exit code, its
    # traceback, the signal that ended it.
    runpy.run_path(main(), run_name="__main__")
