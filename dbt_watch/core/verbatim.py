"""
Escapes text for a container, so that Kubernetes passes it on as it is; and the references that it is to replace.

Kubernetes replaces `$(NAME)` in the command and the arguments of a container by the environment variable of that name,
so a value that somebody else chose could read a secret, or be altered; `$$` stands for one dollar sign
(https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/). `producers.pods.operator` escapes
dbt's arguments and variables with it; `core.command` makes the reference to dbt's vars.
"""

from __future__ import annotations


class Reference(str):
    """`$(NAME)`: an argument in whose place the container gets the value of an environment variable."""

    __slots__ = ()


def verbatim(text: str) -> str:
    """Return a text escaped for a pod's spec, a `Reference` as it is."""
    return str(text) if isinstance(text, Reference) else text.replace("$", "$$")
