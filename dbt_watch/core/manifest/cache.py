"""
Graphs on disk, so that a process that parses a DAG need not decode 50 MB of JSON that another has decoded before.

One file for each location of a manifest, in a directory that only its owner can enter. A file is taken only when it is for the
same location, identity and version of this library; anything else, damage included, counts as missing, and is
written anew. No failure here is ever raised: without a cache all is only slower. `core.manifest.load` calls it.

The directory is `dbt_watch` where the platform keeps a user's caches (XDG_CACHE_HOME or ~/.cache on Linux), or, where
that cannot be had, one of the user's own in the directory for temporary files. DBT_WATCH_CACHE_DIR names another; set to
nothing, it switches the cache off.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import stat
import tempfile
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import platformdirs

from dbt_watch.core.manifest.graph import Facts, Graph, Node

log = logging.getLogger(__name__)

#: counts the changes of `Node`, `Facts` and of what decoding makes of a manifest
FORMAT = 4
#: without a limit, a deployment that gives each version of a DAG its own path would fill the disk
_MOST_FILES = 64
_MAGIC = b"dbt_watch graph\n"
_SUFFIX = ".graph"
#: the names of our files and of their drafts: the directory may be one that holds other things, too
_OURS = re.compile(r"[0-9a-f]{32}\.graph")


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    facts: Facts
    nodes: list[Node]
    configs: list[bytes]


_DECODER = msgspec.msgpack.Decoder(_Stored)
_ENCODER = msgspec.msgpack.Encoder()


def load(location: str, identity: str) -> Graph | None:
    """
    Return the graph of a manifest, or None when it is not there.

    :param location: where the manifest lies
    :param identity: a text that differs for different contents
    """
    directory = _directory()
    if directory is None:
        return None
    try:
        content = _read(directory / _name(location))
        return _decode(content, _key(location, identity))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        log.debug("The cached graph of %s cannot be used: %s", location, error)
        return None


def store(location: str, identity: str, graph: Graph) -> None:
    """Write the graph of a manifest for the next process; nothing happens where that is not possible."""
    directory = _directory()
    if directory is None:
        return
    stored = _Stored(graph.facts, list(graph.nodes.values()), list(graph.configs))
    try:
        payload = _ENCODER.encode(stored)
        _write(directory / _name(location), _key(location, identity) + _checksum(payload), payload)
        _prune(directory)
    except (OSError, TypeError, ValueError) as error:
        log.debug("The graph of %s cannot be cached: %s", location, error)


def _decode(content: bytes, key: bytes) -> Graph:
    header = len(key) + 4
    if not content.startswith(key):
        raise ValueError("it is for another content or version")
    payload = memoryview(content)[header:]
    if content[len(key) : header] != _checksum(payload):
        raise ValueError("it is damaged")
    stored = _DECODER.decode(payload)
    return Graph(stored.facts, stored.nodes, stored.configs)


def _key(location: str, identity: str) -> bytes:
    text = "\0".join((_version(), str(FORMAT), location, identity))
    return _MAGIC + hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _version() -> str:
    try:
        return version("dbt-watch")
    except PackageNotFoundError:
        return ""


def _name(location: str) -> str:
    # A relative path is another file in another directory.
    place = location if "://" in location else str(Path(location).absolute())
    return hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:32] + _SUFFIX


def _checksum(payload: bytes | memoryview) -> bytes:
    return zlib.crc32(payload).to_bytes(4, "big")


def _directory() -> Path | None:
    """Return the first directory that can be made, or is there, and that nobody else can write to; None if there is none."""
    for candidate in _candidates():
        with contextlib.suppress(OSError):
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_private(candidate):
                return candidate
    return None


def _candidates() -> list[Path]:
    configured = os.environ.get("DBT_WATCH_CACHE_DIR")
    if configured is not None:
        return [Path(configured)] if configured else []
    candidates = []
    with contextlib.suppress(RuntimeError):  # the user has no home
        candidates.append(platformdirs.user_cache_path("dbt_watch", appauthor=False))
    user = os.geteuid() if hasattr(os, "geteuid") else "cache"
    candidates.append(Path(tempfile.gettempdir()) / f"dbt_watch-{user}")
    # Some releases of platformdirs name a relative path where the user has no home.
    return [candidate for candidate in candidates if candidate.is_absolute()]


def _is_private(directory: Path) -> bool:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _write(path: Path, header: bytes, payload: bytes) -> None:
    # mkstemp lets nobody else read it, and a rename shows readers the old file or the new one, never a part.
    descriptor, temporary = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.write(payload)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _prune(directory: Path) -> None:
    """Remove the oldest files beyond the limit, among them what killed processes have left."""
    ours = [path for path in directory.iterdir() if _OURS.match(path.name)]
    for path in sorted(ours, key=_age)[:-_MOST_FILES]:
        with contextlib.suppress(OSError):
            path.unlink()


def _age(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
