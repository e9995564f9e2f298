"""
The program between localkube and the process of a container: it makes the namespaces, starts the process, and ends it.

Started by `isolation` as a script of its own (`python -I -S launcher.py FD`), so it uses the standard library only
and imports nothing of the package. FD is one end of a socket pair; both directions carry one JSON value per line:

    localkube -> launcher   the `spec` (once), then "go", then any number of {"signal": 15}
    launcher -> localkube   {"pid": 123}, then {"error": "..."} or {"started": true}, then {"exit": 0} or {"signal": 9}

A spec's `kind` is "container", "exec" for one more process in all namespaces of the one that `pidfd` stands for, or "pause"
for the first process of a PID namespace that several containers share: theirs is then the `pidfd` of a container's spec.

The launcher is the parent of the process and signals it only while it has not collected its exit status, so the
number can never belong to another process by then. When the other end of the socket closes, for whatever reason
(localkube was killed), the process is killed.

Linux facts used here: the first process forked after unshare(CLONE_NEWPID) is PID 1 of the namespace, and when it
ends the kernel kills every other process in it (pid_namespaces(7)); a mount of overlayfs needs Linux 5.11 inside
a user namespace; setns(2) takes a pidfd since Linux 5.8.
"""

# Importing pathlib would take as long as everything else in the start of a container.
# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH112, PTH113, PTH114, PTH115, PTH116, PTH120, PTH123, PTH208, PTH211

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
HOST = "/.host"
LAYERS = "/.layers"
# Shown to the container as they are; /proc is made anew for its PID namespace.
SHARED_WITH_HOST = frozenset({"dev", "sys"})


class StartError(Exception):
    """The process could not be started; the text says why, as a container runtime would."""


def main(descriptor: int) -> int:
    """Run one process as the spec on `descriptor` says, and return 0 once its end has been reported."""
    channel = Channel(descriptor)
    spec = channel.read()
    if spec is None:
        return 1
    try:
        _enter_namespaces(spec)
        _die_with_parent(spec["parent"])
        child = _Child(spec)
    except (StartError, OSError) as error:
        channel.write({"error": str(error)})
        return 1
    return child.supervise(channel)


class Channel:
    """The launcher's end of the socket: JSON values, one per line."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self._pending = b""

    def read(self) -> Any:
        """Wait for the next value; None when the other end is gone."""
        while b"\n" not in self._pending:
            received = self.socket.recv(65536)
            if not received:
                return None
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def read_all(self) -> list[Any]:
        """Every value that has arrived, None at the end when the other end is gone; waits for the first."""
        values = [self.read()]
        while b"\n" in self._pending:
            values.append(self.read())
        return values

    def write(self, value: dict[str, Any]) -> None:
        """Send a value; a reader that is gone is noticed by the next read."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(value).encode() + b"\n")


class _Child:
    """The one process of this launcher, from its fork to its exit status."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._own_group_only = not spec["namespaces"]
        self._is_guest = spec["kind"] == "container" and spec["pidfd"] is not None
        self._go_read, self._go_write = os.pipe()
        self._failure_read, self._failure_write = os.pipe()
        # A byte arrives here when the process ends; set up before it can.
        self._ended, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.pid = os.fork()
        if self.pid == 0:
            self._become_the_process()
        os.close(self._go_read)
        os.close(self._failure_write)
        _let_go_of_standard_streams()

    def supervise(self, channel: Channel) -> int:
        """Report the process id, start on "go", pass signals on, report the end."""
        channel.write({"pid": self.pid})
        if channel.read() != "go":
            self._kill()
            os.waitpid(self.pid, 0)
            return 1
        os.write(self._go_write, b"g")
        failure = _read_to_end(self._failure_read)
        if failure:
            os.waitpid(self.pid, 0)
            channel.write({"error": failure.decode(errors="replace")})
            return 1
        channel.write({"started": True})
        watched: list[Any] = [self._ended, channel.socket]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if channel.socket in ready:
                for command in channel.read_all():
                    if command is None:
                        self._kill()
                        watched.remove(channel.socket)
                    else:
                        self._signal(command["signal"])
            if self._ended in ready:
                os.read(self._ended, 1024)
                if self._has_ended():
                    channel.write(self._collect())
                    return 0

    def _signal(self, number: int) -> None:
        if number == signal.SIGKILL:
            self._kill()
        else:
            os.kill(self.pid, number)

    def _kill(self) -> None:
        """Kill the process and what it started; its number is ours until `_collect`."""
        if self._own_group_only:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                # The group does not exist before setsid() in the child; macOS refuses zombies.
                os.kill(self.pid, signal.SIGKILL)
        else:
            os.kill(self.pid, signal.SIGKILL)

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _collect(self) -> dict[str, int]:
        if self._own_group_only:
            self._kill()  # what the process left running; there is no namespace that ends with it
        elif self._is_guest:
            with contextlib.suppress(OSError):  # the namespace has ended, and all that was in it
                _kill_all_with_our_mounts()
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return {"signal": os.WTERMSIG(status)}
        return {"exit": os.WEXITSTATUS(status)}

    def _become_the_process(self) -> None:
        """In the child: wait for "go", make the view of the file system, and turn into the program."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._go_write)
            os.close(self._failure_read)
            if os.read(self._go_read, 1) != b"g":
                os._exit(1)
            os.setsid()
            _die_with_parent(None)
            if self._spec["kind"] == "container" and self._spec["namespaces"]:
                _make_file_system(self._spec)
            _change_directory(self._spec)
            _heed_all_signals()
            _execute(self._spec["argv"], self._spec["env"])
        except BaseException as error:  # noqa: BLE001 - nothing of this process may outlive the failure
            os.write(self._failure_write, str(error).encode(errors="replace")[:4096] or b"unknown error")
        finally:
            os._exit(128)


def _kill_all_with_our_mounts() -> None:
    """
    Kill what is left of a container in a PID namespace that does not end with it.

    A child does it, which is in that namespace; its parent, the launcher, shares the mounts only.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        ours = os.readlink("/proc/self/ns/mnt")
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has just ended
                if int(name) != os.getpid() and os.readlink(f"/proc/{name}/ns/mnt") == ours:
                    os.kill(int(name), signal.SIGKILL)
    finally:
        os._exit(0)


def _heed_all_signals() -> None:
    """
    Let every signal have its default effect, as a container runtime does.

    An ignored signal stays ignored across exec. Python ignores two of them, and a shell that starts us in the background
    lets us ignore SIGINT, which then neither the XCom sidecar nor dbt would ever hear.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):  # some are the C library's own
            signal.signal(number, signal.SIG_DFL)


def _execute(argv: list[str], env: dict[str, str]) -> None:
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606 - the purpose of this program
    except (FileNotFoundError, NotADirectoryError):
        where = "no such file or directory" if "/" in argv[0] else "executable file not found in $PATH"
        raise StartError(f'exec: "{argv[0]}": {where}') from None
    except PermissionError:
        raise StartError(f'exec: "{argv[0]}": permission denied') from None


def _change_directory(spec: dict[str, Any]) -> None:
    directory = spec["cwd"]
    if spec["kind"] == "container" and spec["namespaces"]:
        os.makedirs(directory, exist_ok=True)  # as a container runtime does
    try:
        os.chdir(directory)
    except OSError as error:
        raise StartError(f"chdir to cwd ({directory!r}) failed: {error.strerror}") from None


def _enter_namespaces(spec: dict[str, Any]) -> None:
    if not spec["namespaces"]:
        return
    user = CLONE_NEWUSER if spec["user_namespace"] else 0
    inner = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC
    if spec["pidfd"] is not None:
        joined = user | (inner if spec["kind"] == "exec" else CLONE_NEWPID)
        _call("setns", spec["pidfd"], joined)
        os.close(spec["pidfd"])
        inner &= ~joined
    elif user:
        uid, gid = os.getuid(), os.getgid()
        _call("unshare", user)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    if inner:
        _call("unshare", inner)


def _die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent dies; Linux only, elsewhere the closed socket tells."""
    if not sys.platform.startswith("linux"):
        return
    _call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        raise StartError("localkube is gone")


def _make_file_system(spec: dict[str, Any]) -> None:
    """
    Make this process's root a private layer over the host's: everything is there to be read, writes go to memory.

    The new root is entered before anything is created in it, so that a symbolic link in a path can only lead to
    another place inside it, never to the host's own directories.
    """
    root = spec["root"]
    host_mounts = _mounts_below_root()
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.mkdir(root + HOST)
    _call("pivot_root", root.encode(), (root + HOST).encode())
    os.chdir("/")
    os.mkdir(LAYERS)
    _mount("tmpfs", LAYERS, "tmpfs", MS_NOSUID | MS_NODEV, "mode=700")
    layers = _Layers(user_namespace=spec["user_namespace"])
    for name in sorted(os.listdir(HOST)):
        _show_top_level(name, layers)
    for path in host_mounts:
        if path != root and os.path.lexists(path):
            layers.show(HOST + path, path)
    os.makedirs(spec["home"], exist_ok=True)
    _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for mount in spec["mounts"]:
        _show_mount(mount, layers)
    for path in (LAYERS, HOST):
        _call("umount2", path.encode(), MNT_DETACH)
        os.rmdir(path)
    _call("sethostname", spec["hostname"].encode(), len(spec["hostname"].encode()))


class _Layers:
    """Makes overlay mounts; each keeps its changes in a directory of its own, in memory."""

    def __init__(self, *, user_namespace: bool) -> None:
        self._options = ",userxattr" if user_namespace else ""
        self._count = 0

    def overlay(self, source: str, target: str) -> None:
        self._count += 1
        upper, work = f"{LAYERS}/{self._count}u", f"{LAYERS}/{self._count}w"
        os.mkdir(upper)
        os.mkdir(work)
        status = os.stat(source)
        os.chmod(upper, status.st_mode & 0o7777)
        with contextlib.suppress(OSError):  # an owner outside the user namespace; the directory is ours then
            os.chown(upper, status.st_uid, status.st_gid)
        options = f"lowerdir={_escape(source)},upperdir={upper},workdir={work}{self._options}"
        _mount("overlay", target, "overlay", 0, options)

    def show(self, source: str, target: str) -> None:
        """Show a host path: writable on a private layer where overlayfs can, else for reading only."""
        # Refused when mounts are locked below it, and for file systems that overlayfs does not take.
        with contextlib.suppress(OSError):
            if os.path.isdir(source):
                self.overlay(source, target)
                return
        # Some mounts of the host may not be seen at all; the container goes without.
        with contextlib.suppress(OSError):
            _bind(source, target, read_only=True)


def _show_top_level(name: str, layers: _Layers) -> None:
    source, target = f"{HOST}/{name}", f"/{name}"
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
        if name in SHARED_WITH_HOST:
            _bind(source, target, read_only=False)
        elif name != "proc":
            layers.show(source, target)
    elif os.path.isfile(source):
        _touch(target)
        layers.show(source, target)


def _show_mount(mount: dict[str, Any], layers: _Layers) -> None:
    source, target = HOST + mount["source"], mount["target"]
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _touch(target)
    try:
        if mount["mode"] == "private":
            layers.overlay(source, target)
        else:
            _bind(source, target, read_only=mount["mode"] == "read-only")
    except OSError as error:
        raise StartError(f"mount of {mount['source']} at {target} failed: {error}") from None


def _touch(path: str) -> None:
    if not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _mounts_below_root() -> list[str]:
    """Where the host has something mounted, outermost first, without the kernel's own file systems."""
    paths = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.split(" ")[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            top = path.split("/")[1]
            if top not in ("", "proc", *SHARED_WITH_HOST):
                paths.append(path)
    return sorted(set(paths), key=len)


def _bind(source: str, target: str, *, read_only: bool) -> None:
    _mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        # Flags that the source has already may not be dropped inside a user namespace.
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        _mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _call("mount", _encoded(source), _encoded(target), _encoded(kind), flags, options.encode() or None)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _escape(path: str) -> str:
    """Quote what separates the options of overlayfs and its lower directories."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library and raise its errno as an OSError."""
    function = getattr(_LIBC, name)
    if function(*(ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _let_go_of_standard_streams() -> None:
    """Close the pipes here, since the process's output must end when the process does."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _read_to_end(descriptor: int) -> bytes:
    chunks = []
    while chunk := os.read(descriptor, 4096):
        chunks.append(chunk)
    os.close(descriptor)
    return b"".join(chunks)


_LIBC: Any = ctypes.CDLL(None, use_errno=True)

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
