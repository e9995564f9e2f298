"""
What only a manifest and dbt's own artifacts know of a node: its columns and its compiled SQL. `page.routes.data` asks.

The columns that the project describes are in XCom (`core.run_notes`). Where a run keeps artifacts, its compiled SQL is read from
run_results.json, and the columns from manifest.json and catalog.json, by the place that the task which runs dbt has told. What was
read is kept for a while: artifacts do not change.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from dbt_watch.core.log.enclosed_files import CATALOG, MANIFEST, RUN_RESULTS
from dbt_watch.core.manifest.columns import Column, columns_in
from dbt_watch.core.results import shortened
from dbt_watch.core.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dbt_watch.page.run_source import RunSource

log = logging.getLogger(__name__)

MAX_KEPT: Final = 8
"""How many artifacts a process keeps; that of 3,000 nodes takes some 10 MB."""
MAX_BYTES: Final = 128 << 20
"""A larger artifact is not read."""
MAX_SQL_CHARS: Final = 200_000

NOT_KEPT: Final = "Only dbt's artifacts contain the compiled SQL of a successful node; this project keeps none (artifacts=)."
NOT_YET: Final = (
    "The compiled SQL is in dbt's artifacts, which are stored when dbt has ended, if the project keeps any."
)
NONE_OF_IT: Final = "dbt's run_results.json does not contain compiled SQL for this node."


class NodeFiles(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    What is shown of a node.

    :param compiled_from: the file that has its compiled SQL
    :param compiled_missing: why there is none, as a sentence
    :param columns_from: the files that have told its columns
    """

    unique_id: str
    compiled_sql: str | None = None
    compiled_from: str = ""
    compiled_missing: str = ""
    columns: tuple[Column, ...] = ()
    columns_from: str = ""


class _Place(NamedTuple):
    """Where the artifacts of one task are."""

    attempt: str
    run: str
    sizes: Mapping[str, Any]

    def paths(self, name: str) -> Iterator[str]:
        """Yield where a file may be: of run_results.json there may be one of all attempts as well."""
        if name in self.sizes:
            yield f"{self.attempt}/{name}"
            if name == RUN_RESULTS and self.run and self.run != self.attempt:
                yield f"{self.run}/{name}"


class ArtifactReader:
    """
    Reads artifacts; one for all of a process, used by several threads.

    :param read: returns the content of a file by its place; may raise anything
    """

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._kept: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def facts(self, path: str, decode: Callable[[bytes], Mapping[str, Any]]) -> Mapping[str, Any]:
        """
        Return what an artifact says of each node.

        :param path: its place
        :param decode: reads its content
        :raises OSError: when it cannot be read
        """
        # One after the other: several viewers mostly want the same, and it is large.
        with self._lock:
            if path not in self._kept:
                try:
                    content = self._read(path)
                except Exception as error:
                    raise OSError(f"{path} cannot be read: {type(error).__name__}") from error
                self._kept[path] = decode(content) if len(content) <= MAX_BYTES else {}
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(path)
            return self._kept[path]


def files_of(source: RunSource, artifacts: ArtifactReader, unique_id: str) -> NodeFiles | None:
    """
    Return what the files of a run say of a node; None where there is no such node. Blocks.

    :param source: the run
    :param artifacts: reads its artifacts
    """
    if unique_id not in source.results and unique_id not in source.nodes:
        return None
    places = list(_places(source.artifacts()))
    found = NodeFiles(unique_id=unique_id)
    _take_sql(found, source, places, artifacts)
    _take_columns(found, source, places, artifacts)
    return found


def _places(told: Sequence[Any]) -> Iterator[_Place]:
    for one in told:
        if isinstance(one, dict) and isinstance(one.get("place"), str) and isinstance(one.get("files"), dict):
            sizes = {
                name: size
                for name, size in one["files"].items()
                if isinstance(size, int) and size <= MAX_BYTES
            }
            yield _Place(one["place"], str(one.get("run") or ""), sizes)


def _take_sql(
    found: NodeFiles, source: RunSource, places: Sequence[_Place], artifacts: ArtifactReader
) -> None:
    if found.unique_id.partition(".")[0] not in _WITH_SQL:
        return
    if not places:
        found.compiled_missing = NOT_KEPT if source.is_over else NOT_YET
        return
    for path in [path for place in places for path in place.paths(RUN_RESULTS)]:
        try:
            code = artifacts.facts(path, _compiled_in).get(found.unique_id)
        except OSError as error:
            log.info("%s", error)
            found.compiled_missing = f"{RUN_RESULTS}, which this run has kept, cannot be read."
            continue
        if code:
            found.compiled_sql = shortened(sanitize(code.strip()), MAX_SQL_CHARS)
            found.compiled_from, found.compiled_missing = RUN_RESULTS, ""
            return
    found.compiled_missing = found.compiled_missing or NONE_OF_IT


def _take_columns(
    found: NodeFiles, source: RunSource, places: Sequence[_Place], artifacts: ArtifactReader
) -> None:
    """Take the columns that the project describes, with the types that the database has, and those that it has besides."""
    described = {column.name: column for column in source.columns_of(found.unique_id)}
    files = [MANIFEST] if described else []
    for name, decode in ((MANIFEST, columns_in), (CATALOG, _catalog_columns)):
        for path in [path for place in places for path in place.paths(name)]:
            try:
                columns = artifacts.facts(path, decode).get(found.unique_id, ())
            except OSError as error:
                log.info("%s", error)
                continue
            if columns:
                described = _joined(described, columns)
                files.append(name)
                break
    found.columns = tuple(described.values())
    found.columns_from = " and ".join(dict.fromkeys(files))


def _joined(known: Mapping[str, Column], more: Sequence[Column]) -> dict[str, Column]:
    """Return columns with what another file says of them; databases may write names in capitals."""
    joined = dict(known)
    names = {name.lower(): name for name in known}
    for column in more:
        name = names.get(column.name.lower(), column.name)
        before = joined.get(name, Column(column.name))
        joined[name] = Column(
            before.name, column.type or before.type, before.description or column.description
        )
    return joined


_WITH_SQL: Final = frozenset({"model", "test", "unit_test", "snapshot", "analysis", "operation"})


class _Result(msgspec.Struct, gc=False):
    unique_id: str = ""
    compiled_code: str | None = None


class _RunResults(msgspec.Struct, gc=False):
    results: list[_Result] = []


def _compiled_in(content: bytes) -> dict[str, str]:
    """Return the compiled SQL of each node that a run_results.json has; none where it cannot be read."""
    try:
        document = msgspec.json.decode(content, type=_RunResults)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return {result.unique_id: result.compiled_code for result in document.results if result.compiled_code}


class _CatalogColumn(msgspec.Struct, gc=False):
    name: str = ""
    type: str | None = None
    index: int | None = None
    comment: str | None = None


class _CatalogNode(msgspec.Struct, gc=False):
    columns: dict[str, _CatalogColumn] = {}


class _Catalog(msgspec.Struct, gc=False):
    nodes: dict[str, _CatalogNode] = {}
    sources: dict[str, _CatalogNode] = {}


def _catalog_columns(content: bytes) -> dict[str, tuple[Column, ...]]:
    """Return the columns that the database has, by unique_id, in its order; none where the catalog cannot be read."""
    try:
        document = msgspec.json.decode(content, type=_Catalog)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return {
        unique_id: tuple(
            Column(column.name or key, column.type or "", column.comment or "")
            for key, column in sorted(node.columns.items(), key=lambda item: item[1].index or 0)
        )
        for section in (document.nodes, document.sources)
        for unique_id, node in section.items()
        if node.columns
    }
