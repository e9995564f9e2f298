"""
What is refused when an object is created or altered, and what is filled in.

The API server's own checks, as far as mistakes of users meet them, with its words; and a refusal of what localkube
cannot run, so that nothing is silently ignored. Called by `api.objects`.
"""

from __future__ import annotations

import base64
import copy
import re
import secrets
import string
from typing import TYPE_CHECKING, Any

from dbt_watch.local.localkube.errors import ApiError, Cause, bad_request, invalid
from dbt_watch.local.localkube.store import NAMESPACES, PODS, SECRETS, Item, Resource
from dbt_watch.local.localkube.volumes import SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Callable

RESTART_POLICIES = ("Always", "OnFailure", "Never")
# The parts of a pod's spec that may be altered after its creation.
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")
_LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_LABEL_KEY = re.compile(rf"^({_SUBDOMAIN}/)?{_LABEL_NAME}$")
_LABEL_VALUE = re.compile(rf"^({_LABEL_NAME})?$")
_NAME = re.compile(rf"^{_SUBDOMAIN}$")
_CONTAINER_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_LONGEST_NAME = 253
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5


def prepare(resource: Resource, namespace: str, body: Any) -> Item:
    """
    Return the object to store for the body of a creation.

    :raises ApiError: 400 or 422
    """
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized: it is not a JSON object")
    kind = body.get("kind")
    if kind not in (None, resource.kind):
        raise bad_request(f"{kind} in version v1 cannot be handled as a {resource.kind}")
    item: Item = _without_nulls(copy.deepcopy(body))
    metadata = item.setdefault("metadata", {})
    if not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(_SUFFIX))
        metadata["name"] = metadata["generateName"] + suffix
    if resource.namespaced:
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
    else:
        metadata.pop("namespace", None)
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "uid"):
        metadata.pop(name, None)
    complete = _COMPLETE.get(resource)
    if complete is not None:
        item = complete(item)
    check(resource, item)
    return item


def check(resource: Resource, item: Item) -> None:
    """Refuse a wrong object; :raises ApiError: 422 with every cause."""
    causes = _metadata_causes(item["metadata"])
    if resource is PODS:
        causes += _pod_causes(item)
    if causes:
        raise invalid(resource.kind, item["metadata"].get("name") or "", causes)


def check_update(resource: Resource, old: Item, new: Item) -> None:
    """Refuse an update that alters what may not be altered; :raises ApiError: 422."""
    check(resource, new)
    name = old["metadata"]["name"]
    for field in ("name", "namespace", "uid"):
        if new["metadata"].get(field) != old["metadata"].get(field):
            cause = Cause(f"metadata.{field}", "Invalid value: field is immutable")
            raise invalid(resource.kind, name, [cause])
    if resource is PODS and _fixed_part(old["spec"]) != _fixed_part(new["spec"]):
        text = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
            " (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`"
        )
        raise invalid(resource.kind, name, [Cause("spec", text, "FieldValueForbidden")])


def _fixed_part(spec: Item) -> Item:
    fixed = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for field in ("containers", "initContainers"):
        if field in fixed:
            fixed[field] = [{**container, "image": ""} for container in fixed[field]]
    return fixed


def _complete_pod(pod: Item) -> Item:
    spec = pod.setdefault("spec", {})
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("securityContext", {})
    for volume in _items(spec, "volumes"):
        if not set(volume) - {"name"}:
            volume["emptyDir"] = {}
    for container in [*_items(spec, "containers"), *_items(spec, "initContainers")]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("resources", {})
        tag = str(container.get("image", "")).rpartition("/")[2].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
    pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    return pod


def _complete_namespace(namespace: Item) -> Item:
    namespace["spec"] = {"finalizers": ["kubernetes"]}
    namespace["status"] = {"phase": "Active"}
    labels = namespace["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = namespace["metadata"].get("name")
    return namespace


def _complete_secret(secret: Item) -> Item:
    secret.setdefault("type", "Opaque")
    for key, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(str(text).encode()).decode()
    return secret


_COMPLETE: dict[Resource, Callable[[Item], Item]] = {
    PODS: _complete_pod,
    NAMESPACES: _complete_namespace,
    SECRETS: _complete_secret,
}


def _metadata_causes(metadata: Item) -> list[Cause]:
    causes = []
    name = metadata.get("name")
    if not name:
        causes.append(
            Cause("metadata.name", "Required value: name or generateName is required", "FieldValueRequired")
        )
    elif not _NAME.match(name) or len(name) > _LONGEST_NAME:
        text = (
            f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric '
            "characters, '-' or '.', and must start and end with an alphanumeric character"
        )
        causes.append(Cause("metadata.name", text))
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL_KEY.match(key):
            causes.append(Cause("metadata.labels", f'Invalid value: "{key}": not a label name'))
        if not _LABEL_VALUE.match(value):
            text = (
                f'Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character, "
                "in at most 63 characters"
            )
            causes.append(Cause("metadata.labels", text))
    for index, owner in enumerate(metadata.get("ownerReferences") or []):
        causes += [
            Cause(f"metadata.ownerReferences[{index}].{field}", "Required value", "FieldValueRequired")
            for field in ("apiVersion", "kind", "name", "uid")
            if not owner.get(field)
        ]
    return causes


def _pod_causes(pod: Item) -> list[Cause]:
    spec = pod["spec"]
    causes = []
    if not spec.get("containers"):
        causes.append(Cause("spec.containers", "Required value", "FieldValueRequired"))
    if spec["restartPolicy"] not in RESTART_POLICIES:
        supported = ", ".join(f'"{policy}"' for policy in RESTART_POLICIES)
        text = f'Unsupported value: "{spec["restartPolicy"]}": supported values: {supported}'
        causes.append(Cause("spec.restartPolicy", text, "FieldValueNotSupported"))
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    for index, volume in enumerate(spec.get("volumes") or []):
        causes += _volume_causes(f"spec.volumes[{index}]", volume)
    seen: set[str] = set()
    for field, restarts in (("initContainers", {None, "Always"}), ("containers", {None})):
        for index, container in enumerate(spec.get(field) or []):
            path = f"spec.{field}[{index}]"
            causes += _container_causes(path, container, volumes, seen)
            if container.get("restartPolicy") not in restarts:
                text = 'Unsupported value: localkube has only "Always", and that for init containers'
                causes.append(Cause(f"{path}.restartPolicy", text, "FieldValueNotSupported"))
    return causes


def _volume_causes(path: str, volume: Item) -> list[Cause]:
    if not volume.get("name"):
        return [Cause(f"{path}.name", "Required value", "FieldValueRequired")]
    if not any(volume.get(kind) is not None for kind in SUPPORTED):
        kinds = ", ".join(kind for kind in volume if kind != "name")
        text = f'Unsupported value: "{kinds}": localkube has only {", ".join(SUPPORTED)}'
        return [Cause(path, text, "FieldValueNotSupported")]
    return []


def _container_causes(path: str, container: Item, volumes: set[Any], seen: set[str]) -> list[Cause]:
    name = container.get("name")
    causes = [
        Cause(f"{path}.{field}", "Required value", "FieldValueRequired")
        for field in ("name", "image")
        if not container.get(field)
    ]
    if name and not _CONTAINER_NAME.match(name):
        text = f'Invalid value: "{name}": not a lowercase RFC 1123 label'
        causes.append(Cause(f"{path}.name", text))
    if name in seen:
        causes.append(Cause(f"{path}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate"))
    seen.add(str(name))
    return causes + _mount_causes(path, container, volumes) + _setting_causes(path, container)


def _mount_causes(path: str, container: Item, volumes: set[Any]) -> list[Cause]:
    causes = []
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where = f"{path}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            causes.append(Cause(f"{where}.name", f'Not found: "{mount.get("name")}"', "FieldValueNotFound"))
        causes += _path_causes(where, mount)
    return causes


def _setting_causes(path: str, container: Item) -> list[Cause]:
    causes = []
    for index, entry in enumerate(container.get("env") or []):
        if not entry.get("name") or set(entry["name"]) - set(string.printable) or "=" in entry["name"]:
            text = f'Invalid value: "{entry.get("name", "")}": not the name of an environment variable'
            causes.append(Cause(f"{path}.env[{index}].name", text))
    hooks = container.get("lifecycle") or {}
    if hooks.get("postStart") or set(hooks.get("preStop") or {}) - {"exec"}:
        text = "Unsupported value: localkube has only preStop hooks of the kind exec"
        causes.append(Cause(f"{path}.lifecycle", text, "FieldValueNotSupported"))
    return causes


def _path_causes(where: str, mount: Item) -> list[Cause]:
    """Refuse paths that lead out of the volume, or nowhere."""
    causes = []
    path = mount.get("mountPath") or ""
    if not path:
        causes.append(Cause(f"{where}.mountPath", "Required value", "FieldValueRequired"))
    elif not path.startswith("/") or ".." in path.split("/"):
        causes.append(Cause(f"{where}.mountPath", f'Invalid value: "{path}": must be an absolute path'))
    inner = mount.get("subPath") or ""
    if inner.startswith("/") or ".." in inner.split("/"):
        causes.append(Cause(f"{where}.subPath", f"Invalid value: \"{inner}\": must not contain '..'"))
    return causes


def _items(spec: Item, field: str) -> list[Item]:
    value = spec.get(field) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ApiError(400, "BadRequest", f"spec.{field}: expected a list of objects")
    return value


def _without_nulls(value: Any) -> Any:
    """Drop fields that are null, which stands for absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
