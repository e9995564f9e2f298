"""
Which of dbt's artifacts are kept and where, and how those of several dbt runs are merged.

`authoring.options` makes an `Artifacts` from the DAG's option; `producers.artifact_store` writes the files. Nothing here reads or writes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dbt_watch.core.log.enclosed_files import CATALOG, COMPILED, INDEX, MANIFEST, RUN_RESULTS, SOURCES
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Artifacts(msgspec.Struct, frozen=True):
    """
    Which of dbt's artifacts are kept, and where; run_results.json always is.

    :param to: a directory in an object store or in a file system that all workers share, such as
        `s3://connection@bucket/dbt/{dag_id}/{run_id}/{attempt}/`. It can contain `{dag_id}`, `{run_id}`, `{group_id}`, `{task_id}`,
        `{map_index}` and `{attempt}`; without any of them, `{dag_id}/{run_id}/{group_id}/{attempt}` is appended
    :param manifest: also keep manifest.json
    :param catalog: also keep catalog.json, and the page that shows it: `dbt docs generate` runs after the build, in the same pod
    :param sources: also keep sources.json, which `freshness` writes
    :param compiled: also keep the compiled SQL of this run, as compiled.tar.gz
    """

    to: str
    manifest: bool = False
    catalog: bool = False
    sources: bool = False
    compiled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The files to request from the container."""
        wanted = {
            RUN_RESULTS: True,
            SOURCES: self.sources,
            MANIFEST: self.manifest,
            CATALOG: self.catalog,
            INDEX: self.catalog,
            COMPILED: self.compiled,
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)


class ArtifactPlaces(msgspec.Struct, frozen=True):
    """
    Where the artifacts of one attempt go.

    :param attempt: the attempt's own directory
    :param run: the directory for the whole DAG run
    :param kept: the directory for what outlives DAG runs
    """

    attempt: str
    run: str
    kept: str


LAST_SUCCESS: Final = "last_success"
"""The value of `state` that means the last successful run of the same project."""

PLACEHOLDERS: Final = ("dag_id", "run_id", "group_id", "task_id", "map_index", "attempt")
_ADDED: Final = "{dag_id}/{run_id}/{group_id}/{attempt}"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_OF_AN_ATTEMPT: Final = ("{attempt}", "{task_id}")
_OF_A_RUN: Final = (*_OF_AN_ATTEMPT, "{run_id}", "{map_index}")


def checked(argument: str, value: Any, *, is_mapped: bool = False) -> Artifacts | None:
    """
    Return the checked value of a decorator's argument.

    :param argument: its name
    :param value: a path, `Artifacts` or None
    :param is_mapped: whether the project is mapped
    :raises ArgumentError: when attempts would overwrite another run's files there
    """
    if value is None:
        return None
    artifacts = value if isinstance(value, Artifacts) else Artifacts(value)
    to = artifacts.to
    if not isinstance(to, str) or not (_URL.match(to) or to.startswith("/")):
        raise ArgumentError(
            argument, to, "the URL of a directory, such as s3://bucket/dbt/{dag_id}/{run_id}/{attempt}/"
        )
    unknown = [name for name in _PLACEHOLDER.findall(to) if name not in PLACEHOLDERS]
    if unknown:
        raise ArgumentError(
            argument, to, f"no placeholders other than {', '.join(PLACEHOLDERS)}", known=PLACEHOLDERS
        )
    if "{" not in to:
        to = f"{to.rstrip('/')}/{_ADDED}"
        to += "/{map_index}" if is_mapped else ""
    if "{run_id}" not in to:
        raise ArgumentError(
            argument, to, "a URL with {run_id} in it: otherwise one run would overwrite the files of another"
        )
    if is_mapped and "{map_index}" not in to:
        raise ArgumentError(argument, to, "a URL with {map_index} in it: this project is mapped")
    if any(word in _root(to) for word in _OF_A_RUN):
        raise ArgumentError(argument, to, "a URL whose bucket is the same for all runs")
    return msgspec.structs.replace(artifacts, to=to)


def places(artifacts: Artifacts, values: Mapping[str, Any], *, label: str = "") -> ArtifactPlaces:
    """
    Return where an attempt's artifacts go.

    :param artifacts: as `checked` returned them
    :param values: for each of `PLACEHOLDERS`
    :param label: the task's name among those of its project, if several run dbt
    """
    to = artifacts.to.rstrip("/")
    own = to if not label or "{task_id}" in to else f"{to}/{label}"
    group = re.sub(_UNFIT, "_", str(values["group_id"])) or "project"
    index = values["map_index"]
    mapped = "" if index in {-1, None} else f".{index}"
    return ArtifactPlaces(
        _filled(own, values),
        _filled(_up_to(to, _OF_AN_ATTEMPT), values),
        f"{_filled(_up_to(to, _OF_A_RUN), values)}/{LAST_SUCCESS}/{group}{mapped}",
    )


def merged(run_results: Iterable[bytes]) -> bytes:
    """
    Return several run_results.json merged into one, with the last result of each node.

    :param run_results: their contents; invalid ones are ignored
    """
    documents = [document for content in run_results if (document := _document(content)) is not None]
    documents.sort(key=lambda document: str(document["metadata"].get("generated_at", "")))
    results: dict[str, Any] = {}
    for document in documents:
        for result in document["results"]:
            results[result["unique_id"]] = result
    whole = dict(documents[-1]) if documents else {"metadata": {}}
    whole["results"] = list(results.values())
    whole["elapsed_time"] = sum(float(document.get("elapsed_time") or 0) for document in documents)
    return msgspec.json.encode(whole)


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(content)
        results = document["results"]
        is_one = isinstance(document["metadata"], dict) and all(result["unique_id"] for result in results)
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return document if is_one else None


def _root(to: str) -> str:
    """Return the scheme and the bucket, or for a path its first directory."""
    scheme, found, rest = to.rpartition("://")
    return f"{scheme}{found}{rest.lstrip('/').partition('/')[0]}"


def _up_to(to: str, words: Iterable[str]) -> str:
    """Return the directory above the first part of a path that contains one of the words."""
    kept: list[str] = []
    for part in to.split("/"):
        if any(word in part for word in words):
            break
        kept.append(part)
    return "/".join(kept)


def _filled(to: str, values: Mapping[str, Any]) -> str:
    return _PLACEHOLDER.sub(lambda match: _UNFIT.sub("_", str(values[match[1]])), to)


_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What an object store or a file system might take for something else; the id of a run may be any text.
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.:+=~-]|^\.+$")
