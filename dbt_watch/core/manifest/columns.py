"""
The columns that a manifest describes. A DAG has no use for them, so they are read apart from the graph, by whoever shows them.

`reporting.manifests` and `page.kept_files` read them from a manifest, `producers.described_build` leaves them in XCom for the page.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dbt_watch.core.manifest.location import is_stored, place_of
from dbt_watch.exceptions import ManifestError


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column of a node, as the project describes it."""

    name: str
    type: str = ""
    description: str = ""


class _Column(msgspec.Struct, gc=False):
    name: str = ""
    description: str | None = None
    data_type: str | None = None


class _Resource(msgspec.Struct, gc=False):
    columns: dict[str, _Column] | None = None


class _Document(msgspec.Struct, gc=False):
    nodes: dict[str, _Resource] = {}
    sources: dict[str, _Resource] = {}


_documents: Final = msgspec.json.Decoder(_Document)


def columns_in(content: bytes) -> dict[str, tuple[Column, ...]]:
    """Return the columns that a manifest describes, by unique_id; none where they cannot be read."""
    try:
        document: Any = _documents.decode(content.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return {
        unique_id: tuple(
            Column(column.name or key, column.data_type or "", column.description or "")
            for key, column in resource.columns.items()
        )
        for section in (document.nodes, document.sources)
        for unique_id, resource in section.items()
        if resource.columns
    }


def columns_at(location: str) -> dict[str, tuple[Column, ...]]:
    """
    Return the columns that a manifest on the local disk describes, by unique_id.

    Of one in an object store there are none: the graph comes from a cache, and the file is not fetched for its columns alone.
    """
    if is_stored(location):
        return {}
    try:
        return columns_in(place_of(location, argument="manifest").read())
    except ManifestError:
        return {}
