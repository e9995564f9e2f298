"""
Compares what a DAG asks for with what there is, before anything starts. Called by `command`.

Whatever is missing is named together with the options that would say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dbt_watch.exceptions import ArgumentError, DbtWatchError
from dbt_watch.local.localkube.images import Images, full_name
from dbt_watch.local.run.objects import CONFIG_MAP, SECRET
from dbt_watch.local.run.stand_ins import DEFAULT_PLACE, OPTION, PROJECT_FILE, project_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from dbt_watch.local.localkube import Image, Mount, Need
    from dbt_watch.local.run.asked import AskedDag, AskedDags, AskedNeed, AskedTask
    from dbt_watch.local.run.objects import Data
    from dbt_watch.local.run.stand_ins import StandIn

_DEPTH: Final = 3
_OPTIONS: Final = {"secret": SECRET, "config map": CONFIG_MAP}


class PreparationError(DbtWatchError):
    """The DAG cannot be loaded, or asks for something that nobody has given; the message says what to give, and how."""


@dataclass(frozen=True, slots=True)
class UserInput:
    """
    What the user has given.

    :ivar stand_ins: by the full names of images
    :ivar shares: what all containers write to, by its place there
    :ivar near: where projects may be that nobody has named, for a suggestion
    """

    stand_ins: Mapping[str, StandIn]
    secrets: Data
    config_maps: Data
    shares: Mapping[str, Mount]
    near: Path


def chosen_dag(asked: AskedDags, path: Path, dag_id: str | None) -> AskedDag:
    """
    Return the one DAG that is to run.

    :param path: the file or the folder
    :param dag_id: what the user named; None for the only one
    :raises PreparationError: when the file cannot be imported, with its stack trace, or there is no DAG
    :raises ArgumentError: when one of several has to be named
    """
    by_id = {dag.dag_id: dag for dag in asked.dags}
    if dag_id in by_id:
        return by_id[dag_id]
    if asked.errors and (path.is_file() or not by_id):
        file, trace = next(iter(asked.errors.items()))
        raise PreparationError(f"{file} cannot be imported:\n{trace.rstrip()}")
    if not by_id:
        raise PreparationError(f"there is no DAG in {path}")
    if dag_id is not None or len(by_id) > 1:
        names, broken = ", ".join(sorted(by_id)), ", ".join(asked.errors)
        more = f"; these cannot be imported: {broken}" if broken else ""
        raise ArgumentError("--dag-id", dag_id, f"a DAG of {path}: {names}{more}", known=by_id)
    return next(iter(by_id.values()))


def images_for(dag: AskedDag, given: UserInput) -> dict[str, Image]:
    """
    Return what stands for images, each with its project where the DAG looks for it.

    :raises PreparationError: when the DAG asks for something that nobody has given
    :raises ArgumentError: when it looks for a project in several places
    """
    refused = [f"  {task.task_id}: {task.refusal}" for task in dag.tasks if task.refusal]
    if refused:
        raise PreparationError(
            "these tasks cannot run on this machine, unless they use KubernetesPodOperator:\n"
            + "\n".join(refused)
        )
    images = {
        one.image: one.as_image(_place(one, dag.tasks), given.shares) for one in given.stand_ins.values()
    }
    told = [*_missing_images(dag, images, given.near), *_missing_objects(dag, given)]
    if told:
        raise PreparationError(f"{dag.dag_id} needs what was not given. Add:\n" + "\n".join(told))
    return images


def claims_of(dag: AskedDag) -> set[str]:
    """Return the names of the claims that pods of the DAG mount."""
    return {need.name for task in dag.tasks for need in task.needs if need.kind == "claim"}


def option_for(need: Need | AskedNeed, project: Path | str = "PROJECT[,VENV]") -> str:
    """
    Return the option that gives what a pod needs.

    :param project: what stands for an image, as far as that is known
    """
    if need.kind == "image":
        return f"{OPTION} {need.name}={project}"
    if need.kind == "claim":
        return f"a directory for the claim {need.name}; it is created only if the DAG names the claim without a template"
    return f"{_OPTIONS[need.kind]} {need.name}:{need.key or 'KEY'}=VALUE"


def _missing_images(dag: AskedDag, images: Mapping[str, Image], near: Path) -> Iterable[str]:
    known = Images(images)
    asking: dict[str, tuple[AskedNeed, list[AskedTask]]] = {}
    for task in dag.tasks:
        for need in task.needs:
            if need.kind == "image" and known.find(need.name) is None:
                asking.setdefault(full_name(need.name), (need, []))[1].append(task)
    for need, tasks in asking.values():
        yield f"  {option_for(need, _guess(tasks, near))}  {_asked_by(tasks)}"


def _missing_objects(dag: AskedDag, given: UserInput) -> Iterable[str]:
    asking: dict[AskedNeed, list[AskedTask]] = {}
    for task in dag.tasks:
        for need in task.needs:
            if need.kind in _OPTIONS:
                asking.setdefault(need, []).append(task)
    for need, tasks in asking.items():
        data = (given.secrets if need.kind == "secret" else given.config_maps).get(need.name)
        # Of one that is needed as a whole, any key that others name says enough.
        is_named = any(other.name == need.name and other.kind == need.kind and other.key for other in asking)
        if data is None and need.key is None and is_named:
            continue
        if data is None or (need.key is not None and need.key not in data):
            yield f"  {option_for(need)}  {_asked_by(tasks)}"


def _asked_by(tasks: Sequence[AskedTask]) -> str:
    more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
    return f"(for {tasks[0].task_id}{more})"


def _place(one: StandIn, tasks: Sequence[AskedTask]) -> str | None:
    """Return where the project of an image goes."""
    if one.project is None:
        return None
    if one.mount is not None:
        return one.mount
    using = [task for task in tasks if _uses(task, one.image) and task.project_dir]
    name = project_name(one.project)
    # An image may hold several projects; what is said of this one counts.
    own = [task for task in using if task.project == name] or using
    places = sorted({str(task.project_dir).rstrip("/") for task in own if str(task.project_dir)[0] == "/"})
    if len(places) > 1:
        raise ArgumentError(
            "mount",
            None,
            f"the project's path in {one.image}, in [tool.dbt_watch.images] of a pyproject.toml: the DAG expects it in "
            f"{' and '.join(places)}",
        )
    return places[0] if places else f"{DEFAULT_PLACE}/{one.project.name}"


def _uses(task: AskedTask, image: str) -> bool:
    return any(need.kind == "image" and full_name(need.name) == full_name(image) for need in task.needs)


def _guess(tasks: Sequence[AskedTask], near: Path) -> Path | str:
    """Return the one project near the DAG file that has the name of the one that is asked for, or how to write one."""
    names = {task.project for task in tasks if task.project}
    if not names:
        return "[PROJECT],VENV"
    found = [path.parent for path in _project_files(near) if project_name(path.parent) in names]
    return found[0] if len(found) == 1 else "PROJECT[,VENV]"


def _project_files(near: Path) -> Collection[Path]:
    patterns = ["/".join([*["*"] * depth, PROJECT_FILE]) for depth in range(_DEPTH + 1)]
    return [path for pattern in patterns for path in near.glob(pattern) if "dbt_packages" not in path.parts]
