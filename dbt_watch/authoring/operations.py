"""
Tasks that run dbt commands other than a build, such as a macro, docs or a clone, in a pod or on a server.

`DbtProject.run_operation`, `DbtProject.command`, `dbt_run_operation` and `dbt_command` call this. A worker that runs another task of
the DAG gets an empty task with the same id, so that it need not import Kubernetes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import get_parsing_context

from dbt_watch.airflow.dag_authoring import current_task_group
from dbt_watch.authoring.api_arguments import check_api_arguments
from dbt_watch.authoring.container import container_command, profiles_dir_of
from dbt_watch.authoring.node_functions import Body
from dbt_watch.authoring.operators import with_models
from dbt_watch.authoring.options import DEFAULTS
from dbt_watch.authoring.pod_arguments import check_pod_arguments
from dbt_watch.authoring.settings import ProjectSettings
from dbt_watch.core.command import check_flags_beside_profile, is_literal, shared_arguments
from dbt_watch.core.other_commands import check_operation, check_words, sub_command
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import XComArg

    from dbt_watch.core.manifest.graph import Graph

# What a project says that bears on any call of dbt; all other options are about its nodes.
OPTIONS: Final = ("project_dir", "profiles_dir", "keep_entrypoint", "deps", "operator_class", "profile")
# Where a task says one of these, the project's other one does not hold for it.
_EITHER: Final = {"profile": "profiles_dir", "profiles_dir": "profile"}
# What an operator of a build is given for itself: what it updates is not updated by another command.
_NOT_INHERITED: Final = frozenset(
    {
        "inlets",
        "outlets",
        "do_xcom_push",
        "task_display_name",
        "doc",
        "doc_md",
        "doc_json",
        "doc_yaml",
        "doc_rst",
    }
)


class Commands:
    """
    Makes tasks that run dbt commands where a project runs.

    :param settings: the arguments of the project
    :param graph: the graph of its nodes; None without a project
    """

    def __init__(self, settings: ProjectSettings, graph: Graph | None = None) -> None:
        options = {name: value for name, value in settings.options.items() if name in OPTIONS}
        pod = {name: value for name, value in settings.pod.items() if name not in _NOT_INHERITED}
        self._runs_in = settings.runs_in
        self._graph = graph
        self._arguments: Mapping[str, Any] = {**options, **pod}

    @classmethod
    def without_project(cls, given: Mapping[str, Any]) -> Commands:
        """
        Return what makes such tasks without a project: on a server if there is a `conn_id`, otherwise in pods.

        :param given: the arguments of the task
        """
        return cls(ProjectSettings.of("server" if "conn_id" in given else "pods", manifest=_NO_MANIFEST))

    def run_operation(self, macro: str, args: Any, given: Mapping[str, Any]) -> XComArg:
        """
        Return the output of a task that runs a macro; see `DbtProject.run_operation`.

        :param given: the other arguments
        """
        check_operation(macro, args)
        words = ["run-operation", macro]
        return self._task(words, macro.replace(".", "_"), {**given, "args": args})

    def command(self, words: Sequence[Any], given: Mapping[str, Any]) -> XComArg:
        """
        Return the output of a task that runs a command; see `DbtProject.command`.

        :param given: the other arguments
        """
        check_words(words)
        return self._task(words, sub_command(words).replace(" ", "_").replace("-", "_"), given)

    def _task(self, words: Sequence[Any], name: str, given: Mapping[str, Any]) -> XComArg:
        if Body.current.get() is not None:
            raise ArgumentError(
                "dbt",
                " ".join(map(str, words)),
                "to be called outside the function that defines the project",
            )
        arguments = dict(given)
        command: dict[str, Any] = {"words": list(words)}
        command |= {
            key: value
            for key in ("args", "vars", "target")
            if (value := arguments.pop(key, None)) is not None
        }
        _check_literals(command)
        task_id = arguments.pop("task_id", None)
        if task_id is not None and not (isinstance(task_id, str) and task_id):
            raise ArgumentError("task_id", task_id, "text, or None")
        settings = self._settings(arguments)
        group = current_task_group()
        task_id = task_id or _free_id(name, group)
        wanted = get_parsing_context().task_id
        if wanted not in {None, group.child_id(task_id)}:
            stand_in = EmptyOperator(task_id=task_id, task_group=group, dag=group.dag)
            return stand_in.output
        made = self._by_server if self._runs_in == "server" else self._in_pod
        operator: Any = made(settings, command=command, task_id=task_id, task_group=group, dag=group.dag)
        result: XComArg = operator.output
        return result

    def _settings(self, given: Mapping[str, Any]) -> ProjectSettings:
        for name, value in given.items():
            if name == "manifest" or (name in DEFAULTS and name not in OPTIONS):
                raise ArgumentError(
                    name,
                    value,
                    "to be left out: it applies to the nodes of a project, and this command builds none",
                )
        replaced = {other for name, other in _EITHER.items() if given.get(name) is not None}
        inherited = {name: value for name, value in self._arguments.items() if name not in replaced}
        return ProjectSettings.of(self._runs_in, manifest=_NO_MANIFEST, **{**inherited, **given})

    def _in_pod(self, settings: ProjectSettings, **arguments: Any) -> Any:
        profile = settings.options["profile"]
        if profile is not None:
            profile.check_for(None if self._graph is None else self._graph.facts.adapter_type)
            check_flags_beside_profile(arguments["command"]["words"], "words")
        check_pod_arguments(settings.pod, {}, settings.options["operator_class"])
        call = container_command(settings)
        from dbt_watch.airflow.kubernetes_imports import load_used_modules_only  # noqa: PLC0415 - not for each worker

        load_used_modules_only()
        from dbt_watch.producers.pods.command_operator import command_class  # noqa: PLC0415

        base: Any = settings.options["operator_class"]
        return (command_class() if base is None else command_class(base))(
            startup_check_interval_seconds=settings.pod.get("startup_check_interval_seconds", 1),
            log_pod_spec_on_failure=settings.pod.get("log_pod_spec_on_failure", False),
            **{
                name: value for name, value in with_models(settings.pod).items() if name not in _WITH_DEFAULTS
            },
            cmds=call.cmds,
            leading=call.leading,
            project_dir=settings.options["project_dir"],
            profiles_dir=profiles_dir_of(settings.options),
            profile=profile,
            graph=self._graph,
            **arguments,
        )

    @staticmethod
    def _by_server(settings: ProjectSettings, **arguments: Any) -> Any:
        check_api_arguments(settings)
        from dbt_watch.producers.api.command_operator import DbtApiCommandOperator  # noqa: PLC0415 - see `_in_pod`

        own = {name: value for name, value in settings.pod.items() if name != "deferrable"}
        return DbtApiCommandOperator(project_dir=settings.options["project_dir"], **own, **arguments)


_NO_MANIFEST: Final = "no manifest is read"
_WITH_DEFAULTS: Final = frozenset({"cmds", "startup_check_interval_seconds", "log_pod_spec_on_failure"})


def _check_literals(command: Mapping[str, Any]) -> None:
    """Check what is already known of the variables and the target."""
    shared_arguments(
        {name: value for name, value in command.items() if is_literal(value)},
        project_dir=None,
        profiles_dir=None,
    )


def _free_id(name: str, group: Any) -> str:
    """Return an id that no task of the DAG has, numbered like repeated calls of a `@task`."""
    task_id, number = name, 0
    while group.child_id(task_id) in group.dag.task_dict:
        number += 1
        task_id = f"{name}__{number}"
    return task_id
