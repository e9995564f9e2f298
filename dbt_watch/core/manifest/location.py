"""
Where a manifest may lie: on a local disk or in an object store.

`core.manifest.load` opens a place, asks for its identity, and reads it only when no cache knows that identity.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from dbt_watch.exceptions import ManifestError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

#: what the stores call a value that changes with the content: s3, gs, abfs and others
_VERSION_KEYS = ("ETag", "etag", "VersionId", "md5Hash", "generation", "checksum")
_TIME_KEYS = ("LastModified", "last_modified", "updated", "mtime", "modified")


class Place(Protocol):
    """One file, wherever it lies."""

    def identity(self) -> str | None:
        """
        Return a text that changes with the content, or None when the place has no such thing.

        :raises ManifestError: when there is no file
        """

    def read(self) -> bytes:
        """
        Return the content.

        :raises ManifestError: when it cannot be read
        """


def place_of(location: str, *, argument: str) -> Place:
    """
    Return the place that a path or URL names.

    :param argument: what the caller's user calls it, for the messages
    :raises ManifestError: when it is no path and no URL, or of a store that is not installed
    """
    if not location.strip():
        raise ManifestError(argument, location, "the path or URL of a manifest.json")
    if not _URL.match(location):
        return _LocalFile(location, Path(location), argument)
    if not is_stored(location):
        return _LocalFile(location, Path(unquote(urlsplit(location).path)), argument)
    return _StoredObject(location, argument)


def is_stored(location: str) -> bool:
    """Return whether a path or URL names something in an object store."""
    return bool(_URL.match(location)) and not location.lower().startswith("file://")


class _LocalFile:
    def __init__(self, location: str, path: Path, argument: str) -> None:
        self._location = location
        self._path = path
        self._argument = argument

    def identity(self) -> str | None:
        try:
            status = self._path.stat()
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if stat.S_ISDIR(status.st_mode):
            raise self._refuse("a file, but this is a directory; dbt writes `target/manifest.json`")
        if not stat.S_ISREG(status.st_mode):
            raise self._refuse("a regular file")
        # The change time of the inode also shows when the file's own time was set back.
        times = (status.st_mtime_ns, status.st_ctime_ns)
        return ":".join(map(str, (status.st_dev, status.st_ino, status.st_size, *times)))

    def read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> ManifestError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        # A relative path means another file in each directory, so the message says which one was looked for.
        return self._refuse(f"a manifest.json of dbt; {str(self._path.absolute())!r}: {reason}")

    def _refuse(self, expected: str) -> ManifestError:
        return ManifestError(self._argument, self._location, expected)


class _StoredObject:
    def __init__(self, location: str, argument: str) -> None:
        self._location = location
        self._argument = argument
        self._path = self._open()

    def identity(self) -> str | None:
        try:
            status: Any = self._path.stat()
        except Exception as error:  # each store has errors of its own
            raise self._unreadable(error) from error
        facts = dict(status)
        marks = [f"{key}={facts[key]}" for key in _VERSION_KEYS if facts.get(key)]
        if not marks:
            marks = [f"{key}={facts[key]}" for key in _TIME_KEYS if facts.get(key)]
        return ":".join([str(facts.get("size")), *marks]) if marks else None

    def read(self) -> bytes:
        try:
            content = self._path.read_bytes()
        except Exception as error:  # each store has errors of its own
            raise self._unreadable(error) from error
        return bytes(content)

    def _open(self) -> Any:
        try:
            from airflow.sdk import ObjectStoragePath  # noqa: PLC0415  (the core works without Airflow)
        except ImportError as error:
            raise self._refuse("a local path: reading from an object store needs Airflow") from error
        try:
            return ObjectStoragePath(self._location)
        except Exception as error:  # each store has errors of its own
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> ManifestError:
        return self._refuse(f"a manifest.json of dbt; {type(error).__name__}: {error}")

    def _refuse(self, expected: str) -> ManifestError:
        return ManifestError(self._argument, self._location, expected)
