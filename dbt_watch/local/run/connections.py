"""Which of Airflow's variables a local run takes over from the environment, and the connections that lead to localkube instead."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

TAKEN: Final = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
_AIRFLOWS_OWN: Final = ("AIRFLOW_", "_AIRFLOW")
_CONNECTION: Final = "AIRFLOW_CONN_"
_NAMESPACE: Final = ("namespace", "extra__kubernetes__namespace")


@dataclass(frozen=True, slots=True)
class TakenOver:
    """
    What becomes of the variables of Airflow in an environment.

    :ivar variables: those that the local Airflow has too
    :ivar clusters: the connections to Kubernetes, by variable: each with the namespace that it names, or None
    :ivar left_out: the names of the others
    """

    variables: Mapping[str, str]
    clusters: Mapping[str, str | None]
    left_out: tuple[str, ...]

    def connections(self, connection_ids: Iterable[str], kubeconfig: str) -> dict[str, str]:
        """
        Return the variables of the connections to Kubernetes, all of which lead to localkube.

        :param connection_ids: those that the DAG names
        :param kubeconfig: the path of localkube's
        """
        wanted = {_CONNECTION + connection_id.upper(): None for connection_id in connection_ids}
        wanted[f"{_CONNECTION}KUBERNETES_DEFAULT"] = None
        return {
            name: connection_variable(kubeconfig, namespace)
            for name, namespace in {**wanted, **self.clusters}.items()
        }


def taken_over(environment: Mapping[str, str]) -> TakenOver:
    """Sort the variables of Airflow."""
    variables = {name: value for name, value in environment.items() if name.startswith(TAKEN)}
    clusters = {
        name: _namespace(value)
        for name, value in variables.items()
        if name.startswith(_CONNECTION) and _is_of_kubernetes(value)
    }
    left_out = sorted(
        name for name in environment if name.startswith(_AIRFLOWS_OWN) and name not in variables
    )
    kept = {name: value for name, value in variables.items() if name not in clusters}
    return TakenOver(kept, clusters, tuple(left_out))


def connection_variable(kubeconfig: str | os.PathLike[str], namespace: str | None = None) -> str:
    """Return a connection to Kubernetes by a kubeconfig, as the value of a variable."""
    extra = {"kube_config_path": str(kubeconfig)} | ({"namespace": namespace} if namespace else {})
    return json.dumps({"conn_type": "kubernetes", "extra": extra})


def _is_of_kubernetes(value: str) -> bool:
    told = _as_json(value)
    return told.get("conn_type") == "kubernetes" if told else value.startswith("kubernetes:")


def _namespace(value: str) -> str | None:
    extra = _as_json(value).get("extra")
    told = _as_json(extra) if isinstance(extra, str) else extra
    named = [told.get(name) for name in _NAMESPACE] if isinstance(told, dict) else []
    return next((name for name in named if isinstance(name, str) and name), None)


def _as_json(value: str) -> dict[str, Any]:
    try:
        told = json.loads(value)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
