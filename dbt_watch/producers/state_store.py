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
from dbt_watch.core.log.enclosed_files import MANIFEST, RUN_RESULTS, SOURCES
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

    def comparison(self, manifest: str) -> StateComparison:
        """
        Return what to compare with.

        :param manifest: where the manifest is that the DAG was made of
        """
        return StateComparison(
            decode_state(place_of(manifest, argument="manifest").read(), location=manifest),
            decode_state(self._read(PARSED) or self._read(MANIFEST) or b"", location=self.directory),
            _statuses(self._read(RUN_RESULTS)),
            since=self.since,
        )

    def variables(self) -> dict[str, str]:
        """
        Return the environment variables by which the container gets what `--defer` needs.

        :raises ArgumentError: when the project is too large for that
        """
        content = self._read(MANIFEST) or self._read(PARSED) or b""
        text = b64encode(gzip.compress(reduced(content, location=self.directory), mtime=0)).decode()
        if len(text) > CHUNK * MAX_CHUNKS:
            raise ArgumentError(
                "defer",
                True,
                f"a project whose relations' names take {CHUNK * MAX_CHUNKS:,} characters in a pod's variables; these take {len(text):,}",
            )
        starts = range(0, len(text), CHUNK)
        return {f"{VARIABLE}{number}": text[start : start + CHUNK] for number, start in enumerate(starts)}

    def _read(self, name: str) -> bytes | None:
        place = f"{self.directory}/{name}"
        return read(place) if exists(place) else None


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
    place: str, manifest: str, files: Mapping[str, bytes], *, run_id: str, attempt: int, at: str
) -> None:
    """
    Keep the state of a run that has ended well.

    :param place: where states are kept
    :param manifest: where the manifest is that the DAG was made of
    :param files: what the container has put into its log, by name
    :param run_id: of the DAG run
    :param attempt: of the task that runs dbt
    :param at: now, as ISO 8601 has it
    """
    earlier = _pointer(place)
    directory = f"{place}/{at.replace(':', '').replace('+', '_')}.{attempt}"
    write(f"{directory}/{PARSED}", place_of(manifest, argument="manifest").read())
    for name in (MANIFEST, SOURCES):
        if name in files:
            write(f"{directory}/{name}", files[name])
    results = [files[RUN_RESULTS]] if RUN_RESULTS in files else []
    if earlier is not None and exists(f"{earlier.directory}/{RUN_RESULTS}"):
        results.insert(0, read(f"{earlier.directory}/{RUN_RESULTS}"))
    write(f"{directory}/{RUN_RESULTS}", merged(results))
    pointer = Pointer(directory, run_id, at, earlier.directory if earlier is not None else "")
    write(f"{place}/{POINTER}", msgspec.json.encode(pointer))
    log.info("The state of this run is kept in %s", directory)
    if earlier is not None and earlier.before.startswith(f"{place}/"):
        remove([f"{earlier.before}/{name}" for name in (PARSED, MANIFEST, SOURCES, RUN_RESULTS)])


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
