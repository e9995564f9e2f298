"""
Which arguments are passed on to KubernetesPodOperator, and which are refused, with the reason.

`authoring.project_factory` calls this when a project is made, because only then is the operator's class imported: a worker that runs
a sensor needs no Kubernetes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import get_parsing_context

from dbt_watch.authoring.options import DEFAULTS
from dbt_watch.core.command import DbtBuild
from dbt_watch.core.flags import check_variables
from dbt_watch.exceptions import ArgumentError
from dbt_watch.rendering.plan import TESTS

if TYPE_CHECKING:
    from collections.abc import Mapping


def watching_class(operator_class: Any) -> Any:
    """Return the class of the producer for an operator; KubernetesPodOperator for None."""
    # Imported here: a worker that runs a sensor needs no Kubernetes.
    from dbt_watch.airflow.kubernetes_imports import load_used_modules_only  # noqa: PLC0415

    load_used_modules_only()
    from dbt_watch.producers.pods.operator import producer_class  # noqa: PLC0415

    return producer_class() if operator_class is None else producer_class(operator_class)


def check_pod_arguments(
    pod: Mapping[str, Any], isolated: Mapping[str, Mapping[str, Any]], operator_class: type[Any] | None
) -> None:
    """
    Refuse arguments that the operator does not know or that this library sets, and a pod without an image.

    :param pod: what the project was given
    :param isolated: what is different for each isolated node
    :param operator_class: the operator's class; None for KubernetesPodOperator
    :raises ArgumentError: naming the argument
    """
    if get_parsing_context().task_id is not None:
        return  # on a worker: all of this was checked when the DAG was parsed
    _check_arguments(pod, operator_class)
    if not any(pod.get(name) for name in _IMAGE_SOURCES):
        raise ArgumentError(
            "image",
            pod.get("image"),
            "the image that holds dbt and the project, or a pod template that names one",
        )
    checked: list[Mapping[str, Any]] = []
    for own in isolated.values():
        # Most nodes have the settings of one selection.
        if not any(own is other or (own.keys() == other.keys() and own == other) for other in checked):
            _check_arguments(own, operator_class)
            checked.append(own)


def _check_arguments(pod: Mapping[str, Any], operator_class: type[Any] | None) -> None:
    for name, reason in _REFUSED.items():
        if name in pod and pod[name] not in _HARMLESS.get(name, ()):
            raise ArgumentError(name, pod[name], reason)
    known = known_arguments(watching_class(operator_class))
    for name, value in pod.items():
        if name not in known:
            raise ArgumentError(
                name,
                value,
                ELSEWHERE.get(name)
                or "an argument of @dbt_k8s_project or of the operator below it; this one is unknown",
                known=() if name in ELSEWHERE else known,
                sought=name,
            )
    variables = pod.get("env_vars")
    if isinstance(variables, Iterable) and not isinstance(variables, str):
        names = [name if isinstance(name, str) else getattr(name, "name", "") for name in variables]
        check_variables("env_vars", variables, names)


def known_arguments(operator_class: Any) -> frozenset[str]:
    """Return the names of all arguments of a project, given its operator's class."""
    return parameters_of(operator_class) - OURS - set(_REFUSED) | _OPTIONS


@functools.cache
def parameters_of(operator_class: Any) -> frozenset[str]:
    """Return the names of all arguments that a class and its bases accept."""
    names: set[str] = set()
    for base in operator_class.__mro__:
        # That of `object` accepts none, and to read it from its text takes 7 ms in each process that loads a DAG file.
        if base is not object and "__init__" in vars(base):
            names.update(inspect.signature(vars(base)["__init__"]).parameters)
    return frozenset(names - {"self", "args", "kwargs"})


_IMAGE_SOURCES: Final = ("image", "pod_template_file", "pod_template_dict", "full_pod_spec")
OURS: Final = frozenset(
    {
        "build",
        "selection",
        "graph",
        "selected",
        "on_stale",
        "on_drift",
        "on_warning",
        "lineage",
        "artifacts",
        "state",
        "manifest",
        "sensors_told",
        "watched",
        "task_id",
        "dag",
        "task_group",
    }
)
_OPTIONS: Final = frozenset(DEFAULTS) | {"manifest"}
_REFUSED: Final = {
    "arguments": "dbt's options in dbt_build(...); the command line is made from them",
    "get_logs": "True: the state of each node is read from the pod's log",
    "trigger_rule": "to be left out: put tasks upstream of the project instead",
    "task_id": "group_id, the name of the task group",
}
# What people write who know dbt's command line, astronomer-cosmos or an operator for dbt, and where it is said here. An
# operator of one's own may have an argument of that name.
ELSEWHERE: Final = {
    **{
        name: f"dbt_build({name}=...) instead, as the return value of the decorated function"
        for name in DbtBuild.__struct_fields__
    },
    "dbt_vars": "dbt_build(vars=...) instead, as the return value of the decorated function",
    "target_name": "dbt_build(target=...) instead, as the return value of the decorated function",
    "models": "select=... instead: dbt has renamed --models to --select",
    "install_deps": "deps=True instead, which runs `dbt deps` before the build",
    "dbt_deps": "deps=True instead, which runs `dbt deps` before the build",
    "test_behavior": f"tests=... instead, one of {', '.join(map(repr, TESTS))}",
    "manifest_path": "manifest=... instead",
    "dbt_project_path": "project_dir=... instead, the project's path in the image, together with manifest=...",
    "dbt_executable_path": "cmds=[...] instead, the command that runs dbt in the image",
    "project_config": "manifest=... instead, and project_dir=..., the project's path in the image",
    "profile_config": "profile=DbtProfile(conn_id) instead, which creates a profile from an Airflow connection, or profiles_dir=..., the"
    " directory of profiles.yml in the image or in a volume",
    "render_config": "select=..., exclude=..., selector=... and tests=... instead, as separate arguments",
    "execution_config": "image=... and the other arguments of the pod instead: dbt always runs in one pod",
    "operator_args": "the operator's arguments as arguments of the decorator, such as image=... and namespace=...",
}
_HARMLESS: Final[dict[str, tuple[Any, ...]]] = {
    "get_logs": (True,),
    "trigger_rule": ("all_success",),
}
