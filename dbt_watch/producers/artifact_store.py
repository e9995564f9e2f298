"""
Writes dbt's artifacts to where they are kept: an object store, or a file system, by Airflow's ObjectStoragePath and connections.

`producers.dbt_task` does so on a worker when dbt has ended, after the sensors have been told. Whatever goes wrong here is a warning: no build
fails for it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.artifacts import ArtifactPlaces, merged, places
from dbt_watch.core.log.enclosed_files import COMPILED, RUN_RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dbt_watch.core.artifacts import Artifacts
    from dbt_watch.core.log.enclosed_files import EnclosedFile, EnclosedFiles

log = logging.getLogger(__name__)

TRIES: Final = 3
PAUSE: Final = 1.0  # in seconds; twice as much each time
MAX_MERGED: Final = 1_000
"""How many run_results.json of one DAG run become one; a project with a pod for each node has as many."""


class ArtifactStore:
    """
    The places of one attempt.

    :param artifacts: what is kept
    :param task_instance: whose attempt it is
    :param group_id: of the project's task group
    :param label: the name of the task among those of its project, where several run dbt
    """

    def __init__(self, artifacts: Artifacts, task_instance: Any, *, group_id: str, label: str = "") -> None:
        self._artifacts = artifacts
        values = {
            "dag_id": task_instance.dag_id,
            "run_id": task_instance.run_id,
            "group_id": group_id,
            "task_id": task_instance.task_id,
            "map_index": task_instance.map_index,
            "attempt": task_instance.try_number,
        }
        self.places: ArtifactPlaces = places(artifacts, values, label=label)

    def keep(self, files: EnclosedFiles) -> dict[str, int]:
        """
        Write what has arrived; say what has not.

        :returns: the size of each file that was written, by its name there
        """
        found, missing = files.found()
        for name in self._artifacts.names:
            if name not in missing and all(file.name != name for file in found):
                missing[name] = "the log does not mention it"
        if len(missing) == len(self._artifacts.names):
            log.warning("No artifacts were kept: %s", next(iter(missing.values())))
        else:
            for name, reason in missing.items():
                log.warning("The artifact %s was not kept: %s", name, reason)
        written = {name: len(content) for file in found for name, content in [self._written(file)] if content}
        if RUN_RESULTS in written:
            _attempted("Merging the results of this DAG run", self._merge)
        if written:
            log.info("Artifacts in %s: %s", self.places.attempt, ", ".join(written))
        return written

    def _written(self, file: EnclosedFile) -> tuple[str, bytes]:
        is_archive = file.name == COMPILED
        name, content = (f"{file.name}.gz", file.packed) if is_archive else (file.name, file.content)
        place = f"{self.places.attempt}/{name}"
        return name, content if _attempted(f"Writing {place}", lambda: write(place, content)) else b""

    def _merge(self) -> None:
        """
        Make one run_results.json of those of all attempts and parts so far.

        Another part may do so at the same time. Each looks again after it has written, so the last one has seen all.
        """
        whole = f"{self.places.run}/{RUN_RESULTS}"
        if whole == f"{self.places.attempt}/{RUN_RESULTS}":
            return
        seen: set[str] = set()
        while seen != (found := listed(self.places.run, RUN_RESULTS)):
            seen = found
            write(whole, merged(read(place) for place in sorted(seen)[:MAX_MERGED]))


def listed(directory: str, name: str) -> set[str]:
    """Return the places of all files of a name below a directory, those in itself left out."""
    root = _path(directory)
    return {str(path) for path in root.rglob(name) if path.parent != root}


def write(place: str, content: bytes) -> None:
    """Write a file, and the directories that it is in."""
    path = _path(place)
    if getattr(path, "protocol", "") in {"file", "local", ""}:
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def read(place: str) -> bytes:
    """Return the content of a file."""
    return bytes(_path(place).read_bytes())


def exists(place: str) -> bool:
    """Return whether there is a file."""
    return bool(_path(place).exists())


def remove(places_of_files: Iterable[str]) -> None:
    """Remove files, as far as they are there."""
    for place in places_of_files:
        try:
            _path(place).unlink()
        except Exception as error:  # noqa: BLE001, PERF203 - each store has errors of its own
            log.debug("Removing %s failed: %s", place, error)


def _path(place: str) -> Any:
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 - seconds of imports, for those who use it only

    return ObjectStoragePath(place if "://" in place else f"file://{place}")


def _attempted(what: str, action: Callable[[], object]) -> bool:
    """Do something that may fail, a few times; return whether it was done."""
    for number in range(TRIES):
        try:
            action()
        except Exception as error:  # noqa: BLE001, PERF203 - each store has errors of its own
            if number + 1 == TRIES:
                log.warning("%s failed (%s: %s)", what, type(error).__name__, error)
                return False
            time.sleep(PAUSE * 2**number)
        else:
            return True
    return False
