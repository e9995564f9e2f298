"""How a pod of localkube has itself killed for its memory: it asks the server, as nobody in a container could. `player` calls it."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER: Final = "cluster.json"
"""The file that says where the server is, beside the script."""

# In seconds: by then the process is dead.
_PATIENCE: Final = 30.0


class Cluster(msgspec.Struct):
    """Where a localkube is: its address, the token of its own kubeconfig, and its certificate in base64."""

    url: str
    token: str
    authority: str


def kill_for_memory(directory: Path) -> None:
    """
    Have this pod killed as the kernel does it, and wait for that.

    Where it is not known in which localkube it runs, this returns at once: the process ends with its exit code alone.

    :param directory: of the script
    """
    path = directory / CLUSTER
    if not path.exists():
        return
    cluster = msgspec.json.decode(path.read_bytes(), type=Cluster)
    name = os.environ.get("HOSTNAME", "")
    for pod in _asked(cluster, "api/v1/pods")["items"]:
        if pod["metadata"]["name"] == name:
            whole = f"{pod['metadata']['namespace']}/{name}"
            _asked(cluster, "localkube/faults/kill_for_memory", {"pod": whole})
            time.sleep(_PATIENCE)


def _asked(cluster: Cluster, path: str, body: dict[str, str] | None = None) -> Any:
    context = ssl.create_default_context(cadata=base64.b64decode(cluster.authority).decode())
    request = urllib.request.Request(  # noqa: S310 - it is localkube's own address
        f"{cluster.url}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {cluster.token}"},
    )
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(request, timeout=_PATIENCE) as answer:
        return json.load(answer)
