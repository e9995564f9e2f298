"""
Arguments of a container, written so that Kubernetes passes them on as they are.

Kubernetes replaces `$(NAME)` in the command and the arguments of a container by the environment variable of that name,
so a value that somebody else chose could read a secret, or be altered; `$$` stands for one dollar sign
(https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/). The producer asks for
this when it puts dbt's arguments into the pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def verbatim(arguments: Iterable[str]) -> list[str]:
    """Give the arguments for a pod's spec from which the container gets just these."""
    return [argument.replace("$", "$$") for argument in arguments]
