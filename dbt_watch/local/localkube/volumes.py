"""
The volumes of a pod as directories of the host, and where its containers see them.

An emptyDir is a directory that all containers of the pod share; secrets and config maps are written out as files.
They lie in the pod's own directory and go with it. A claim is a directory of the user's, which stays. Called by `kubelet`
before the first container starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbt_watch.local.localkube.environment import ConfigError, data_of
from dbt_watch.local.localkube.isolation import BoundPath, MountMode
from dbt_watch.local.localkube.store import CONFIG_MAPS, SECRETS, Item, Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLAIM = "persistentVolumeClaim"
# The kinds of volume that exist here; others are refused when the pod is created.
SUPPORTED = ("emptyDir", "secret", "configMap", CLAIM)


class Volumes:
    """
    The volumes of one pod.

    :param directory: where to keep them
    :param claims: the directories that stand for claims, by their names
    """

    def __init__(self, pod: Item, directory: Path, claims: Mapping[str, Path]) -> None:
        self._pod = pod
        self._directory = directory
        self._claims = claims
        self._volumes: dict[str, tuple[str, Item]] = {}

    @property
    def missing_claims(self) -> list[str]:
        """The names of the claims that the pod asks for and that are not there."""
        asked = [volume[CLAIM]["claimName"] for volume in self._given if volume.get(CLAIM) is not None]
        return [name for name in asked if name not in self._claims]

    @property
    def _given(self) -> list[Item]:
        return self._pod["spec"].get("volumes") or []

    def prepare(self, store: Store) -> None:
        """
        Make the directories and write the files; may be repeated.

        :raises ConfigError: a secret or config map is missing
        """
        for volume in self._given:
            kind = next(kind for kind in SUPPORTED if volume.get(kind) is not None)
            self._volumes[volume["name"]] = (kind, volume[kind])
            if kind == CLAIM:
                continue
            path = self._directory / volume["name"]
            path.mkdir(parents=True, exist_ok=True)
            if kind == "emptyDir":
                path.chmod(0o777)
            else:
                self._write_files(path, kind, volume, store)

    def bound_paths(self, container: Item) -> list[BoundPath]:
        """Return the mounts of a container, outermost first."""
        mounts = sorted(container.get("volumeMounts") or [], key=lambda mount: str(mount["mountPath"]))
        return [self._bound_path(mount) for mount in mounts]

    def _bound_path(self, mount: Item) -> BoundPath:
        kind, volume = self._volumes[mount["name"]]
        is_claim = kind == CLAIM
        source = self._claims[volume["claimName"]] if is_claim else self._directory / mount["name"]
        fixed = not (is_claim or kind == "emptyDir") or volume.get("readOnly") or mount.get("readOnly")
        if mount.get("subPath"):
            source = source / mount["subPath"]
            if kind == "emptyDir" or not fixed:
                source.mkdir(parents=True, exist_ok=True)
        return BoundPath(source, mount["mountPath"], MountMode.READ_ONLY if fixed else MountMode.SHARED)

    def _write_files(self, path: Path, kind: str, volume: Item, store: Store) -> None:
        resource, name_field = (SECRETS, "secretName") if kind == "secret" else (CONFIG_MAPS, "name")
        source = volume[kind]
        item = store.find(resource, self._pod["metadata"]["namespace"], source[name_field])
        if item is None:
            if source.get("optional"):
                return
            raise ConfigError(
                f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
                f'{resource.kind.lower()} "{source[name_field]}" not found'
            )
        data = data_of(resource, item)
        chosen = source.get("items") or [{"key": key, "path": key} for key in data]
        for entry in chosen:
            if entry["key"] not in data:
                raise ConfigError(f"references non-existent {resource.kind.lower()} key: {entry['key']}")
            file = path / entry["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data[entry["key"]])
            file.chmod(entry.get("mode") or source.get("defaultMode") or 0o644)
