"""
What a pod needs before it can start: its images, and the secrets, config maps and claims that it refers to.

`cluster` compares it with what there is, for one who would rather know at once than wait as a kubelet does; `dbt_watch.local.run` asks
it of pods that are still to be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dbt_watch.local.localkube.environment import data_of
from dbt_watch.local.localkube.store import CONFIG_MAPS, PODS, SECRETS
from dbt_watch.local.localkube.volumes import CLAIM

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from dbt_watch.local.localkube.images import Images
    from dbt_watch.local.localkube.store import Store

Kind = Literal["image", "secret", "config map", "claim"]

_STORED = {"secret": SECRETS, "config map": CONFIG_MAPS}
_REFERENCES: tuple[tuple[str, Kind], ...] = (("secret", "secret"), ("configMap", "config map"))


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """
    Something that a pod cannot start without.

    :ivar name: of the image, or of the object in the pod's namespace
    :ivar key: what it has to hold; None for the object as such
    """

    kind: Kind
    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A need of a pod that is not met; `pod` is "namespace/name"."""

    pod: str
    need: Need


def needs_of(pod: Mapping[str, Any]) -> tuple[Need, ...]:
    """
    Return what a pod needs, without what it says it can do without.

    :param pod: as it goes over the wire
    """
    return tuple(dict.fromkeys(_needs(pod.get("spec") or {})))


def missing_in(store: Store, images: Images, claims: Collection[str]) -> list[Missing]:
    """Return what keeps pods from starting, the oldest pod first; to be called in the server's thread."""
    found = []
    for pod in store.list(PODS):
        if pod["status"]["phase"] == "Pending" and not pod["metadata"].get("deletionTimestamp"):
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            found += [
                Missing(f"{namespace}/{name}", need)
                for need in needs_of(pod)
                if not _is_met(need, namespace, store, images, claims)
            ]
    return found


def _is_met(need: Need, namespace: str, store: Store, images: Images, claims: Collection[str]) -> bool:
    if need.kind == "image":
        return images.find(need.name) is not None
    if need.kind == "claim":
        return need.name in claims
    resource = _STORED[need.kind]
    item = store.find(resource, namespace, need.name)
    return item is not None and (need.key is None or need.key in data_of(resource, item))


def _needs(spec: Mapping[str, Any]) -> Iterator[Need]:
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container.get("image"):
            yield Need("image", container["image"])
        for source in container.get("envFrom") or []:
            for field, kind in _REFERENCES:
                reference = source.get(f"{field}Ref") or {}
                if reference.get("name") and not reference.get("optional"):
                    yield Need(kind, reference["name"])
        for entry in container.get("env") or []:
            for field, kind in _REFERENCES:
                reference = (entry.get("valueFrom") or {}).get(f"{field}KeyRef") or {}
                if reference.get("name") and not reference.get("optional"):
                    yield Need(kind, reference["name"], reference.get("key"))
    for volume in spec.get("volumes") or []:
        yield from _needs_of_volume(volume)


def _needs_of_volume(volume: Mapping[str, Any]) -> Iterator[Need]:
    if volume.get(CLAIM):
        yield Need("claim", volume[CLAIM]["claimName"])
    secret, config_map = volume.get("secret") or {}, volume.get("configMap") or {}
    kinds: tuple[tuple[Kind, Mapping[str, Any], str | None], ...] = (
        ("secret", secret, secret.get("secretName")),
        ("config map", config_map, config_map.get("name")),
    )
    for kind, source, name in kinds:
        if name and not source.get("optional"):
            keys = [item["key"] for item in source.get("items") or []]
            yield from (Need(kind, name, key) for key in keys or [None])
