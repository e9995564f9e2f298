"""Kubeconfig files: what stands in them, and how they are written. Used by `accounts`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def kubeconfig(url: str, authority: str, token: str, namespace: str) -> str:
    """
    Return the text of a kubeconfig with one cluster and one user.

    :param authority: the certificate of the authority, as PEM in base64
    """
    context = {"cluster": "localkube", "user": "localkube", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "localkube",
        "clusters": [
            {"name": "localkube", "cluster": {"server": url, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "localkube", "user": {"token": token}}],
        "contexts": [{"name": "localkube", "context": context}],
    }
    # JSON is YAML too.
    return json.dumps(document, indent=2) + "\n"


def write_private(path: Path, text: str) -> None:
    """
    Write a file that nobody else may read, not even for a moment.

    A reader finds the old file or the new one, never half of it.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
