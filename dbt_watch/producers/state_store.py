"""
The state of the last good run: what a later run compares its project with, and where relations are that it does not build.

It lies beside the artifacts. A file that is written last says which directory holds it, so a reader never sees half of one. `producers.dbt_task` reads
it before dbt runs, and writes it after a run that has built all that had changed.
"""

from __future__ import annotations

import gzip
import logging
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.artifacts import merged
from dbt_watch.core.labels import label_of
from dbt_watch.core.log.enclosed_files import MANIFEST, RUN_RESULTS, SOURCES
from dbt_watch.core.log.stale_sources import fault_of
from dbt_watch.core.manifest.location import place_of
from dbt_watch.core.selection.state import StateComparison, decode_state, reduced
from dbt_watch.exceptions import ArgumentError
from dbt_watch.producers.artifact_store import exists, read, remove, write

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

POINTER: Final = "current.json"
PARSED: Final = "parsed_manifest.json"
"""The manifest that the DAG was made of. Compared with the next one it shows the project's changes alone, and none of the image's."""

CHUNK: Final = 100_000
"""In characters, of one environment variable; Linux takes 131,072."""

MAX_CHUNKS: Final = 7
"""Kubernetes stores an object of 1.5 MB at most, and a long selection may need 0.5 MB of it."""

VARIABLE: Final = "DBT_WATCH_STATE_"
SOURCES_VARIABLE: Final = "DBT_WATCH_SOURCES_"


class Pointer(msgspec.Struct, frozen=True):
    """
    What says where the state is.

    :param directory: its directory
    :param run_id: of the DAG run that has left it
    :param at: when that was written, as ISO 8601 has it
    :param before: the directory of the state before it, which a run that has begun may still read
    """

    directory: str
    run_id: str
    at: str
    before: str = ""


class State:
    """
    A state that was found.

    :param directory: where its files are
    :param since: which run has left it, in words
    """

    def __init__(self, directory: str, since: str) -> None:
        self.directory = directory
        self.since = since

    @classmethod
    def find(cls, place: str) -> State | None:
        """
        Return the state in a place; None when there is none.

        :param place: a directory with a manifest.json, that file itself, or what `keep` has written
        """
        if place.endswith(".json"):
            directory, _, name = place.rpartition("/")
            return cls(directory, place) if name == MANIFEST and exists(place) else None
        pointer = _pointer(place)
        if pointer is not None:
            return cls(pointer.directory, f"{pointer.run_id} of {pointer.at}")
        return cls(place, place) if exists(f"{place}/{MANIFEST}") else None

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        return exists(f"{self.directory}/{name}")

    def comparison(self, manifest: str) -> StateComparison:
        """
        Return what to compare with.

        :param manifest: where the manifest is that the DAG was made of
        """
        return StateComparison(
            decode_state(place_of(manifest, argument="manifest").read(), location=manifest),
            decode_state(self.read(PARSED) or self.read(MANIFEST) or b"", location=self.directory),
            _statuses(self.read(RUN_RESULTS)),
            since=self.since,
            knows_sources=self.has(SOURCES),
        )

    def variables(self, *, defers: bool = True, compares_sources: bool = False) -> dict[str, str]:
        """
        Return the environment variables by which the container gets what dbt needs of a state.

        :param defers: whether it needs the names of relations, for `--defer`
        :param compares_sources: whether it needs to know when sources were loaded last, for `source_status:`
        :raises ArgumentError: when the project is too large for that
        """
        texts = {}
        if defers:
            content = self.read(MANIFEST) or self.read(PARSED) or b""
            texts[VARIABLE] = _packed(reduced(content, location=self.directory))
        if compares_sources:
            texts[SOURCES_VARIABLE] = _packed(self.read(SOURCES) or b"")
        length = sum(map(len, texts.values()))
        if length > CHUNK * MAX_CHUNKS:
            raise ArgumentError(
                "defer" if defers else "select",
                True if defers else "source_status:",
                f"a project whose relation names fit into {CHUNK * MAX_CHUNKS:,} characters of a pod's environment"
                f" variables; these take {length:,}",
            )
        return {
            f"{variable}{number}": text[start : start + CHUNK]
            for variable, text in texts.items()
            for number, start in enumerate(range(0, len(text), CHUNK))
        }

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None when it is not there."""
        return read(f"{self.directory}/{name}") if self.has(name) else None


def nothing(manifest: str) -> StateComparison:
    """
    Return what to compare with when there is no state: all is new.

    :param manifest: where the manifest is that the DAG was made of
    """
    return StateComparison(
        decode_state(place_of(manifest, argument="manifest").read(), location=manifest),
        None,
        since="nothing: there is no state",
    )


def keep(
    place: str,
    manifest: str,
    files: Mapping[str, bytes],
    *,
    run_id: str,
    attempt: int,
    at: str,
    has_all_changes: bool = True,
    has_all_fresher: bool = True,
) -> None:
    """
    Keep the state of a run that has ended well.

    :param place: where states are kept
    :param manifest: where the manifest is that the DAG was made of
    :param files: what the container has put into its log, by name
    :param run_id: of the DAG run
    :param attempt: of the task that runs dbt
    :param at: now, as ISO 8601 has it
    :param has_all_changes: whether it has built all that had changed in the project
    :param has_all_fresher: whether it has built all that reads newer data
    """
    earlier = _pointer(place)
    before = State(earlier.directory, "") if earlier is not None else None
    # Without a state, or one of the sources, a run builds everything.
    builds_all = has_all_fresher and (before is None or not before.has(SOURCES))
    has_all_changes = has_all_changes or builds_all
    directory = f"{place}/{at.replace(':', '').replace('+', '_')}.{attempt}"
    kept = {RUN_RESULTS: _joined(before, files, RUN_RESULTS)}
    if has_all_changes:
        kept[PARSED] = place_of(manifest, argument="manifest").read()
        kept[MANIFEST] = files.get(MANIFEST)
    elif before is not None:
        kept.update({name: before.read(name) for name in (PARSED, MANIFEST)})
    if has_all_fresher:
        kept[SOURCES] = _joined(before, files, SOURCES)
    elif before is not None:
        kept[SOURCES] = before.read(SOURCES)
    for name, content in kept.items():
        if content is not None:
            write(f"{directory}/{name}", content)
    pointer = Pointer(directory, run_id, at, earlier.directory if earlier is not None else "")
    write(f"{place}/{POINTER}", msgspec.json.encode(pointer))
    log.info("The state of this run is kept in %s", directory)
    if earlier is not None and earlier.before.startswith(f"{place}/"):
        remove([f"{earlier.before}/{name}" for name in (PARSED, MANIFEST, SOURCES, RUN_RESULTS)])


def stale_sources(sources: bytes | None) -> str:
    """
    Return the names of the sources that a check has found stale, or could not check.

    :param sources: a sources.json
    """
    statuses = _statuses(sources)
    stale = [unique_id for unique_id, status in statuses.items() if fault_of(status)]
    return ", ".join(map(label_of, sorted(stale)))


def _joined(before: State | None, files: Mapping[str, bytes], name: str) -> bytes | None:
    """Return the results of this run together with those of earlier ones, of each node the last."""
    contents = [before.read(name) if before is not None else None, files.get(name)]
    found = [content for content in contents if content is not None]
    return merged(found) if found or name == RUN_RESULTS else None


def _packed(content: bytes) -> str:
    return b64encode(gzip.compress(content, mtime=0)).decode()


def _pointer(place: str) -> Pointer | None:
    if not exists(f"{place}/{POINTER}"):
        return None
    return msgspec.json.decode(read(f"{place}/{POINTER}"), type=Pointer)


class _Result(msgspec.Struct, frozen=True, gc=False):
    unique_id: str = ""
    status: str = ""


class _Results(msgspec.Struct, frozen=True, gc=False):
    results: list[_Result] = []


def _statuses(content: bytes | None) -> dict[str, str]:
    if not content:
        return {}
    try:
        found: Any = msgspec.json.decode(content, type=_Results)
    except (msgspec.MsgspecError, ValueError):
        return {}
    return {result.unique_id: result.status for result in found.results}
