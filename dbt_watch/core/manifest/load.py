"""
Reads a manifest.json from wherever it lies.

`authoring` calls `load_manifest` while a DAG is parsed, often many times for one file, so it looks into two caches first: one
of the process, one on disk (`core.manifest.cache`). `dbt-watch ls` and `replay` call it too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from dbt_watch.core.manifest import cache as graph_cache
from dbt_watch.core.manifest.decode import (
    SCHEMA_VERSION,
    Heading,
    Manifest,
    Metadata,
    graph_of,
)
from dbt_watch.core.manifest.location import place_of
from dbt_watch.exceptions import ManifestError

if TYPE_CHECKING:
    import os

    from dbt_watch.core.manifest.graph import Graph


def load_manifest(location: str | os.PathLike[str], *, argument: str = "manifest") -> Graph:
    """
    Read a manifest.json.

    The graph of a file that has not changed since comes from a cache.

    :param location: a local path, a file:// URL, or the URL of an object store that Airflow's ObjectStoragePath can read, such as
        s3://connection@bucket/manifest.json
    :param argument: what the caller's user calls it, for the messages
    :raises ManifestError: when nothing can be read there, or it is not a manifest of dbt 1.8 or later
    """
    text = str(location)
    place = place_of(text, argument=argument)
    identity = place.identity()
    if identity is None:
        return decode_manifest(place.read(), location=text, argument=argument)
    graph = _IN_PROCESS.get(text, identity)
    if graph is None:
        graph = graph_cache.load(text, identity)
    if graph is None:
        graph = decode_manifest(place.read(), location=text, argument=argument)
        if place.identity() != identity:
            return graph  # it is being written right now, so this may be the old content or the new one
        graph_cache.store(text, identity, graph)
    _IN_PROCESS.put(text, identity, graph)
    return graph


def decode_manifest(content: bytes, *, location: str, argument: str = "manifest") -> Graph:
    """
    Return the graph of a manifest's content.

    :param content: the JSON text
    :param location: where it comes from, for the messages
    :raises ManifestError: when it is not a manifest of dbt 1.8 or later
    """
    content = content.removeprefix(b"\xef\xbb\xbf")  # some Windows tools mark UTF-8 so
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
        if manifest.metadata.schema_version == SCHEMA_VERSION:
            return graph_of(manifest)
        problem = ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = str(error)
    raise ManifestError(argument, location, _what_is_wrong(content, problem))


class _InProcess:
    """The graphs of the last few manifests that this process has read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._graphs: OrderedDict[str, tuple[str, Graph]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, location: str, identity: str) -> Graph | None:
        with self._lock:
            known, graph = self._graphs.get(location, ("", None))
            if graph is None or known != identity:
                return None
            self._graphs.move_to_end(location)
            return graph

    def put(self, location: str, identity: str, graph: Graph) -> None:
        with self._lock:
            self._graphs[location] = (identity, graph)
            self._graphs.move_to_end(location)
            while len(self._graphs) > self._limit:
                self._graphs.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._graphs.clear()


_IN_PROCESS = _InProcess(limit=8)
_WANTED = "a manifest.json of dbt"


def _what_is_wrong(content: bytes, problem: str) -> str:
    """Return what was expected instead, so that the user knows what to do."""
    if not content:
        return f"{_WANTED}, but the file is empty"
    if content.startswith(b"\x1f\x8b"):
        return f"{_WANTED}, not compressed"
    try:
        metadata = msgspec.json.decode(content, type=Heading).metadata
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        metadata = None
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            return f"a complete manifest.json of dbt; the JSON is cut off after {len(content)} bytes"
        return f"{_WANTED}, but this is not JSON ({error})"
    if metadata is None:
        return f"{_WANTED}, but this JSON is not from dbt ({problem})"
    return _what_is_wrong_in(metadata, problem)


def _what_is_wrong_in(metadata: Metadata, problem: str) -> str:
    version = metadata.schema_version
    if version is None:
        schema = metadata.dbt_schema_version.rpartition("/dbt/")[2] or "unknown"
        return f"{_WANTED}, but this is another file (its schema is {schema})"
    if version < SCHEMA_VERSION:
        return f"{_WANTED} 1.8 or later (v{SCHEMA_VERSION} of the format), but this is v{version}"
    if version > SCHEMA_VERSION:
        return (
            f"v{SCHEMA_VERSION} of the manifest's format, but this is v{version}: it needs a newer dbt_watch"
        )
    return f"{_WANTED} as dbt writes it; damaged: {problem}"
