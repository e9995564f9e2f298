"""
Airflow's assets for what dbt builds: which nodes have one, how it is named, and what an event of it tells.

Pure. `authoring.assets` makes a `TrackedAssets` of a project's options; whatever tells Airflow of builds asks it for events: sensors,
the executor, and the tasks that run dbt. `dbt_asset`, in the same module, names the same assets for the schedule of another DAG.

Every event is told by an alias, `dbt://PROJECT/UNIQUE_ID`, which is known wherever the manifest is. The asset itself is named by where the
relation lies, as Airflow's providers and OpenLineage name it (https://openlineage.io/docs/spec/naming), once a namespace is
given; without one it is named as the alias.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from dbt_watch.core import statuses
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dbt_watch.core.manifest.graph import Node
    from dbt_watch.core.results import NodeResult

_TYPES: Final = frozenset({"model", "seed", "snapshot"})
# dbt says that all is well, and has built nothing.
_NOT_BUILT: Final = frozenset({statuses.NO_OP, "reused"})
_PART: Final = re.compile(r'"((?:[^"]|"")+)"|`([^`]+)`|\[([^\]]+)\]|([^."`\[\]]+)')


class AssetEvent(msgspec.Struct, frozen=True):
    """
    What Airflow is told of one build.

    :param alias: the name of the alias
    :param uri: the asset
    :param extra: what is known of the build, as JSON values
    """

    alias: str
    uri: str
    extra: dict[str, Any]


class TrackedAssets(msgspec.Struct, frozen=True):
    """
    The nodes of whose builds Airflow is told, and how their assets are named.

    :param project: the name of the dbt project
    :param relations: for each such node, by its unique_id, its relation as the manifest has it
    :param namespace: where the relations lie, such as "postgres://db.example:5432"
    """

    project: str
    relations: dict[str, str | None]
    namespace: str | None = None

    def only(self, unique_ids: Collection[str]) -> TrackedAssets | None:
        """Return the same for some nodes; None when there is none among them."""
        kept = {name: relation for name, relation in self.relations.items() if name in unique_ids}
        return msgspec.structs.replace(self, relations=kept) if kept else None

    @property
    def aliases(self) -> list[str]:
        """The names of all aliases."""
        return [alias_name(self.project, unique_id) for unique_id in self.relations]

    @property
    def uris(self) -> list[tuple[str, str]]:
        """The alias of each node, and its asset as far as the manifest tells."""
        found = []
        for unique_id, relation in self.relations.items():
            alias = alias_name(self.project, unique_id)
            found.append((alias, asset_uri(alias, self.namespace, relation)))
        return found

    def events(self, results: Iterable[NodeResult]) -> list[AssetEvent]:
        """
        Return what Airflow is told of some nodes: nothing of such as were not built.

        :param results: what became of them
        """
        return [
            self._event(result)
            for result in results
            if result.unique_id in self.relations and was_built(result)
        ]

    def _event(self, result: NodeResult) -> AssetEvent:
        alias = alias_name(self.project, result.unique_id)
        # Where dbt ran, names may be others than where the manifest was made.
        relation = result.relation_name or self.relations[result.unique_id]
        return AssetEvent(alias, asset_uri(alias, self.namespace, relation), extra_of(result))


def has_asset(node: Node) -> bool:
    """Return whether dbt makes something of a node that others can read."""
    return node.resource_type in _TYPES and node.materialized != "ephemeral"


def was_built(result: NodeResult) -> bool:
    """Return whether dbt has really built a node, and not merely found that there is nothing to do."""
    return (result.is_success or result.is_warning) and result.status not in _NOT_BUILT


def alias_name(project: str, unique_id: str) -> str:
    """
    Return the name of a node's alias.

    :param project: the name of the dbt project; the node's package stands for one that is not known
    :param unique_id: the node
    """
    return f"dbt://{project or unique_id.split('.')[1]}/{unique_id}"


def asset_uri(alias: str, namespace: str | None, relation: str | None) -> str:
    """
    Return the URI of a node's asset.

    :param alias: the name of its alias, by which it goes where its place is not known
    :param namespace: see `TrackedAssets`
    :param relation: its quoted name in the database, such as '"shop"."public"."orders"'
    """
    parts = relation_parts(relation or "")
    if namespace is None or not parts:
        return alias
    base = namespace if namespace.endswith("://") else f"{namespace.rstrip('/')}/"
    return base + "/".join(quote(part, safe="$~") for part in parts)


def relation_parts(relation: str) -> list[str]:
    """Return the parts of a relation's name without their quotes, in any adapter's way to quote: database, schema, identifier."""
    found = []
    for double, back, square, bare in _PART.findall(relation):
        found.append(double.replace('""', '"') or back or square or bare)
    return found


def extra_of(result: NodeResult) -> dict[str, Any]:
    """Return what an event tells of a build."""
    finished_at = result.finished_at
    return {
        "unique_id": result.unique_id,
        "status": result.status,
        "rows": result.rows_affected,
        "seconds": result.execution_time,
        "finished_at": None if finished_at is None else finished_at.isoformat(),
        "invocation_id": result.invocation_id,
    }


def identity_of(extra: dict[str, Any]) -> tuple[Any, Any]:
    """Return what no two builds of a node have in common, of what an event tells."""
    return extra.get("invocation_id"), extra.get("finished_at")


def check_namespace(argument: str, value: Any) -> None:
    """
    Check what stands in front of the name of each relation.

    :raises ArgumentError: when it is no beginning of a URI, or holds what an asset must not
    """
    if value is None:
        return
    if not isinstance(value, str) or "://" not in value:
        raise ArgumentError(
            argument,
            value,
            'the beginning of a URI: "postgres://db.example:5432", "snowflake://my-account", "bigquery://"',
        )
    parsed = urlsplit(value)
    if not parsed.scheme or "@" in parsed.netloc or parsed.query or parsed.fragment:
        raise ArgumentError(argument, value, "a URI with only a scheme, a host and a path: no user, no query")
