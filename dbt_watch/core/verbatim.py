"""
Text for a container, written so that Kubernetes passes it on as it is, and references that it is to replace.

Kubernetes replaces `$(NAME)` in the command and the arguments of a container by the environment variable of that name,
so a value that somebody else chose could read a secret, or be altered; `$$` stands for one dollar sign
(https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/). The producer asks for
this when it puts dbt's arguments and variables into the pod.
"""

from __future__ import annotations


class Reference(str):
    """`$(NAME)`: an argument in whose place the container gets the value of an environment variable."""

    __slots__ = ()


def verbatim(text: str) -> str:
    """Give the text for a pod's spec from which the container gets just this one."""
    return str(text) if isinstance(text, Reference) else text.replace("$", "$$")
