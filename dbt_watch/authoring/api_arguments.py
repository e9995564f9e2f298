"""
Which arguments are passed on to the operator that runs dbt on a server, and which are refused, with the reason.

`authoring.project_factory` calls this when a project is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import get_parsing_context

from dbt_watch.authoring.options import DEFAULTS, ApiOptions
from dbt_watch.authoring.pod_arguments import ELSEWHERE, OURS, parameters_of
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbt_watch.authoring.settings import ProjectSettings


def api_class() -> type[Any]:
    """Return the class of a producer that runs dbt on a server."""
    from dbt_watch.producers.api.operator import DbtApiOperator  # noqa: PLC0415 - not for a worker that runs a sensor

    return DbtApiOperator


def check_api_arguments(settings: ProjectSettings) -> None:
    """
    Refuse arguments that the operator does not know, that the server decides, or that a server does not support.

    :raises ArgumentError: naming the argument
    """
    if get_parsing_context().task_id is not None:
        return  # on a worker: all of this was checked when the DAG was parsed
    options: Mapping[str, Any] = settings.options
    for name, default in DEFAULTS.items():
        if name not in API_OPTIONS and options[name] != default:
            raise ArgumentError(name, options[name], _NOT_OF_A_SERVER[name])
    if options["freshness"] == "before":
        raise ArgumentError("freshness", "before", _NO_CHECK_BEFORE)
    known = known_arguments()
    for name, value in settings.pod.items():
        if name in _REFUSED:
            if value not in _HARMLESS.get(name, ()):
                raise ArgumentError(name, value, _REFUSED[name])
            continue
        if name not in known:
            elsewhere = _POD if name in _pod_arguments() else ELSEWHERE.get(name)
            raise ArgumentError(
                name,
                value,
                elsewhere
                or "an argument of @dbt_api_project or of Airflow's BaseOperator; this one is unknown",
                known=() if elsewhere else known,
                sought=name,
            )
    conn_id = settings.pod.get("conn_id", "dbt_api")
    if not isinstance(conn_id, str) or not conn_id:
        raise ArgumentError("conn_id", conn_id, "the id of Airflow's connection to the server")


def known_arguments() -> frozenset[str]:
    """Return the names of all arguments of a project that a server runs."""
    operator_class: Any = api_class()
    return parameters_of(operator_class) - OURS - set(_REFUSED) | API_OPTIONS


def _pod_arguments() -> frozenset[str]:
    from dbt_watch.authoring.pod_types import PodArguments  # noqa: PLC0415 - only for an error

    return frozenset(PodArguments.__annotations__)


API_OPTIONS: Final = frozenset(ApiOptions.__annotations__) | {"manifest"}

_SERVERS: Final = "to be left out: the server decides it for each of its projects"
_NO_PODS: Final = "to be left out: a server runs dbt, so there are no pods to configure"
_NOT_OF_A_SERVER: Final = {
    "profiles_dir": _SERVERS,
    "keep_entrypoint": _NO_PODS,
    "deps": "to be left out: install packages where the server's project is deployed",
    "on_stale": 'to be left out: freshness="only" holds no nodes back',
    "operator_class": _NO_PODS,
    "isolate": _NO_PODS,
    "profile": _SERVERS,
    "artifacts": "to be left out: the server keeps the artifacts",
    "state": "to be left out: a server cannot compare with the state of an earlier run",
}
_NO_CHECK_BEFORE: Final = (
    '"only", in a separate project upstream of this one: a server runs one command at a time, and the freshness check must end'
    " before dbt build is started"
)
_POD: Final = "to be left out: it configures a pod, but here a server runs dbt"
_REFUSED: Final = {
    "trigger_rule": "to be left out: put tasks upstream of the project instead",
    "task_id": "group_id, the name of the task group",
}
_HARMLESS: Final[dict[str, tuple[Any, ...]]] = {"trigger_rule": ("all_success",)}
