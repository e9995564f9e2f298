"""What is different about the pod of an isolated node: `PodSettings` in a DAG file, or a mapping in the project's YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dbt_watch.authoring.options import DEFAULTS
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from dbt_watch.authoring.pod_types import PodArguments


class PodSettings:
    """
    The operator's arguments that differ for the pod of an isolated node.

    They replace the arguments of `@dbt_k8s_project` with the same names; the rest stays.

    :param arguments: any arguments of KubernetesPodOperator, or of the project's `operator_class`, such as `image`,
        `container_resources`, `node_selector`, `tolerations`, `env_vars`, `secrets`, `service_account_name` or `pool`
    :raises ArgumentError: when one of them is an option of the project as a whole
    """

    def __init__(self, **arguments: Unpack[PodArguments]) -> None:
        for name, value in arguments.items():
            if name in DEFAULTS:
                raise ArgumentError(
                    name, value, "to be passed to @dbt_k8s_project: it applies to the whole project"
                )
        self.arguments: Mapping[str, Any] = dict(arguments)

    def __repr__(self) -> str:
        # Without values, which may be secret.
        return f"PodSettings({', '.join(f'{name}=...' for name in self.arguments)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PodSettings) and self.arguments == other.arguments

    def __hash__(self) -> int:
        return hash(tuple(self.arguments))


def from_meta(unique_id: str, settings: Mapping[str, Any] | bool) -> dict[str, Any]:
    """
    Return the operator's arguments that a node sets in `meta.dbt_watch.isolate`.

    :param unique_id: the node
    :param settings: True, or arguments of the operator, with Kubernetes models as in manifests
    :raises ArgumentError: when one of them cannot be written in YAML
    """
    if isinstance(settings, bool):
        return {}
    for name in settings:
        if name in DEFAULTS or name in _NOT_IN_YAML:
            where = f"meta.dbt_watch of {unique_id}: isolate"
            raise ArgumentError(where, name, "an argument of the operator whose value can be written in YAML")
    return dict(settings)


# Objects of Python, or what the library itself sets.
_NOT_IN_YAML: Final = frozenset({"callbacks", "full_pod_spec", "progress_callback", "secrets"})
