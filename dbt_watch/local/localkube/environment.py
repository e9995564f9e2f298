"""
From a container's spec to its argument list and environment, as a kubelet does it.

`$(NAME)` in `command`, `args` and `env` is replaced by earlier variables, `$$` is a dollar sign
(https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/).
Called by `containers` right before a start.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dbt_watch.local.localkube.store import CONFIG_MAPS, SECRETS, Item, Resource, Store

if TYPE_CHECKING:
    from dbt_watch.local.localkube.images import Image

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.*)'\]$")


class ConfigError(Exception):
    """The container cannot be configured: a secret, config map or key that it needs is not there."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace the references to known variables; unknown ones stay as they are."""

    def value(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _REFERENCE.sub(value, text)


def command_line(container: Item, image: Image, variables: Mapping[str, str]) -> list[str]:
    """
    Return what to run: the pod's command and arguments, or the image's where the pod has none.

    :raises ConfigError: neither has one
    """
    command, arguments = container.get("command") or [], container.get("args") or []
    if not command:
        arguments = arguments or ([] if container.get("args") else list(image.cmd))
        command = list(image.entrypoint)
    line = [expand(part, variables) for part in [*command, *arguments]]
    if not line:
        raise ConfigError("no command specified")
    return line


def variables_of(container: Item, pod: Item, image: Image, store: Store) -> dict[str, str]:
    """
    Return the environment of a container: the image's, then `envFrom`, then `env`.

    :raises ConfigError: something that it refers to is missing
    """
    sources = _Sources(pod, store)
    variables = image.environment()
    variables["HOSTNAME"] = host_name(pod)
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix") or ""
        variables.update((prefix + key, text) for key, text in sources.whole(source).items())
    for entry in container.get("env") or []:
        if entry.get("valueFrom"):
            found = sources.one(entry["valueFrom"])
            if found is not None:
                variables[entry["name"]] = found
        else:
            variables[entry["name"]] = expand(entry.get("value") or "", variables)
    return variables


def host_name(pod: Item) -> str:
    """Return the host name that the containers of a pod see."""
    name: str = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-.")


def data_of(resource: Resource, item: Item) -> dict[str, bytes]:
    """Return the keys and values of a secret or a config map."""
    if resource is SECRETS:
        return {key: base64.b64decode(value) for key, value in (item.get("data") or {}).items()}
    texts = {key: value.encode() for key, value in (item.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (item.get("binaryData") or {}).items()}
    return {**texts, **binary}


class _Sources:
    """Looks up what variables refer to, for one pod."""

    def __init__(self, pod: Item, store: Store) -> None:
        self._pod = pod
        self._store = store
        self._readers: dict[str, Callable[[Item], str | None]] = {
            "secretKeyRef": lambda reference: self._key(SECRETS, reference),
            "configMapKeyRef": lambda reference: self._key(CONFIG_MAPS, reference),
            "fieldRef": lambda reference: self._field(reference["fieldPath"]),
        }

    def one(self, source: Item) -> str | None:
        """Return the value for a `valueFrom`; None leaves the variable unset."""
        for name, read in self._readers.items():
            if source.get(name):
                return read(source[name])
        raise ConfigError(f"localkube does not know {', '.join(source)}")

    def whole(self, source: Item) -> dict[str, str]:
        """Return all entries for an `envFrom`."""
        for name, resource in (("secretRef", SECRETS), ("configMapRef", CONFIG_MAPS)):
            if source.get(name):
                data = self._data(resource, source[name])
                return {key: value.decode(errors="replace") for key, value in data.items()}
        return {}

    def _key(self, resource: Resource, reference: Item) -> str | None:
        data = self._data(resource, reference)
        if reference["key"] in data:
            return data[reference["key"]].decode(errors="replace")
        if reference.get("optional"):
            return None
        namespace = self._pod["metadata"]["namespace"]
        raise ConfigError(
            f"couldn't find key {reference['key']} in {resource.kind} {namespace}/{reference['name']}"
        )

    def _data(self, resource: Resource, reference: Item) -> dict[str, bytes]:
        item = self._store.find(resource, self._pod["metadata"]["namespace"], reference["name"])
        if item is not None:
            return data_of(resource, item)
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{resource.kind.lower()} "{reference["name"]}" not found')

    def _field(self, path: str) -> str:
        metadata = self._pod["metadata"]
        if match := _SUBSCRIPT.match(path):
            return str((metadata.get(match.group(1)) or {}).get(match.group(2), ""))
        value: Any = self._pod
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            return "\n".join(f'{key}="{text}"' for key, text in sorted(value.items()))
        return "" if value is None else str(value)
