"""Where a plan comes from: a DAG file, which is run as the DAG processor runs it, or a manifest alone. `planning.command` asks."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from airflow.sdk import DAG

from dbt_watch.authoring.pod_settings import PodSettings
from dbt_watch.authoring.project_factory import made_projects
from dbt_watch.core.text import one_line
from dbt_watch.decorators import dbt_k8s_project
from dbt_watch.exceptions import ArgumentError, DbtWatchError, ExecutorWarning, SelectionWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dbt_watch.project import DbtProject
    from dbt_watch.rendering.project_plan import ProjectPlan

_MESSAGE_CHARS: Final = 1000
# Where there is no DAG: the names that the documentation uses too.
_GROUP_ID: Final = "build"


class DagFileError(DbtWatchError):
    """A DAG file cannot be read, fails, or holds no project."""


def plan_of_dag_file(
    path: Path, *, dag_id: str | None, group_id: str | None, warn: Callable[[str], object]
) -> ProjectPlan:
    """
    Return the plan of the one project of a DAG file, or of the one that is named.

    :param path: the file; what it imports is found beside it, and where Airflow looks
    :param dag_id: of its DAG; None for any
    :param group_id: of its task group; None for any
    :param warn: is told of each part of a selection that matches nothing
    :raises DagFileError: when the file is missing, fails, or holds no project
    :raises ArgumentError: when several projects are meant, or none
    """
    projects = _projects_in(path, warn)
    if not projects:
        raise DagFileError(
            f"{path} defines no project: none of its DAGs calls a function under @dbt_k8s_project or @dbt_api_project"
        )
    matches = [
        project
        for project in projects
        if dag_id in {None, project.group.dag.dag_id} and group_id in {None, project.group.group_id}
    ]
    if len(matches) == 1:
        return matches[0].plan
    names = [f"--dag {project.group.dag.dag_id} --project {project.group.group_id}" for project in projects]
    if matches:
        raise ArgumentError(
            "FILE", str(path), f"--dag and --project, to choose one of these projects: {'; '.join(names)}"
        )
    dag_ids = {project.group.dag.dag_id for project in projects}
    if dag_id is not None and dag_id not in dag_ids:
        raise ArgumentError(
            "--dag", dag_id, f"a DAG of {path} with a project: {'; '.join(names)}", known=dag_ids
        )
    raise ArgumentError(
        "--project",
        group_id,
        f"a task group of {path} with a project: {'; '.join(names)}",
        known=[str(project.group.group_id) for project in projects],
    )


def plan_of_manifest(
    manifest: str,
    *,
    image: str | None,
    isolate: Sequence[str],
    warn: Callable[[str], object],
    **options: Any,
) -> ProjectPlan:
    """
    Return the plan that a project would have with some options.

    :param manifest: a path or a URL
    :param image: of the pods; None where that does not matter
    :param isolate: selections, each a reason of its own
    :param warn: is told of each part of a selection that matches nothing
    :param options: more options of `@dbt_k8s_project`
    :raises ArgumentError: when the manifest or an option is wrong, naming the option as `dbt_k8s_project` has it
    """

    def build() -> None: ...

    where = manifest if "://" in manifest else str(Path(manifest).resolve())
    with _told(warn), DAG("plan", schedule=None):
        project = dbt_k8s_project(
            where,
            group_id=_GROUP_ID,
            image=image or "image",
            isolate={selection: PodSettings() for selection in isolate} or None,
            **options,
        )(build)()
        plan = project.plan
    pods = plan.pods if image else tuple(msgspec.structs.replace(pod, image=None) for pod in plan.pods)
    return msgspec.structs.replace(plan, dag_id="", pods=pods)


def _projects_in(path: Path, warn: Callable[[str], object]) -> list[DbtProject]:
    """Run a DAG file, and return the projects that it makes."""
    if not path.is_file():
        raise DagFileError(f"{path} is no file")
    made: list[DbtProject] = []
    token = made_projects.set(made)
    try:
        # What a DAG file prints is no part of a plan, which may be read by a program.
        with _told(warn), contextlib.redirect_stdout(sys.stderr):
            _run(path.resolve())
    except (Exception, SystemExit) as error:
        raise DagFileError(_failure(path, error)) from error
    finally:
        made_projects.reset(token)
    return made


def _run(path: Path) -> None:
    # Airflow has put its own folders there; a file elsewhere stands for a bundle of its own.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    # As with Airflow, no name under which anything could import it.
    name = f"dbt_watch_plan_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DagFileError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _failure(path: Path, error: BaseException) -> str:
    """Return where in a DAG file something went wrong, and what."""
    if isinstance(error, DagFileError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    number = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines or [None])[-1]
    where = path if number is None else f"{path}, line {number}"
    return f"{where}: {type(error).__name__}: {one_line(str(error), _MESSAGE_CHARS)}"


@contextlib.contextmanager
def _told(warn: Callable[[str], object]) -> Iterator[None]:
    """Have the warnings of projects told in one line each, and no others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for item in caught:
                if issubclass(item.category, SelectionWarning | ExecutorWarning):
                    warn(str(item.message))
