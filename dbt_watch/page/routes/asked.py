"""What a request asks for, as its query says. A value that Airflow did not put in, such as `{RUN_ID}`, counts as none."""

from typing import Any, NamedTuple

from fastapi import HTTPException, Request

from dbt_watch.page.projects import ProjectKey, RunProject, project_with, projects_of
from dbt_watch.page.readers import ReaderRegistry, SharedReader, in_thread


class Asked(NamedTuple):
    """A request for a run."""

    dag_id: str
    run_id: str | None
    project: str | None
    map_index: int
    task_id: str | None
    since: int

    @classmethod
    def by(cls, request: Request) -> "Asked":
        """
        Read a request.

        :raises HTTPException: when it names no DAG
        """
        dag_id = _text(request, "dag_id")
        if dag_id is None:
            raise HTTPException(404, "dag_id is missing")
        return cls(
            dag_id,
            _text(request, "run_id"),
            _text(request, "project"),
            _number(request, "map_index", -1),
            _text(request, "task_id"),
            _number(request, "since", 0),
        )


def _text(request: Request, name: str) -> str | None:
    value = request.query_params.get(name, "")
    return None if not value or (value.startswith("{") and value.endswith("}")) else value


def _number(request: Request, name: str, default: int) -> int:
    try:
        return int(_text(request, name) or default)
    except ValueError:
        return default


def registry_of(request: Request) -> ReaderRegistry:
    """Return the readers of this process."""
    return request.app.state.readers  # type: ignore[no-any-return]


async def run_of(request: Request, asked: Asked) -> Any:
    """
    Return the run that is asked for.

    :raises HTTPException: when there is none
    """
    run = await in_thread(registry_of(request).database.run, asked.dag_id, asked.run_id)
    if run is None:
        raise HTTPException(404, "there is no such run" if asked.run_id else "this DAG has no run yet")
    return run


async def reader_of(request: Request) -> SharedReader:
    """
    Return the reader of the project that is asked for; the only one, or the first one, where none is named.

    :raises HTTPException: when there is none
    """
    asked = Asked.by(request)
    run = await run_of(request, asked)
    if asked.project is not None:
        key = ProjectKey(asked.dag_id, run.run_id, asked.project, asked.map_index)
    else:
        projects = await in_thread(projects_of, registry_of(request).database, asked.dag_id, run.run_id)
        chosen = chosen_of(projects, asked)
        if chosen is None:
            raise HTTPException(404, "this run has no dbt project")
        key = chosen.key
    reader = await registry_of(request).of(key)
    if not reader.source.tasks:
        raise HTTPException(404, "this run has no such dbt project")
    return reader


def chosen_of(projects: list[RunProject], asked: Asked) -> RunProject | None:
    """Return which project of a run is meant."""
    if asked.task_id is not None:
        return project_with(projects, asked.task_id, asked.map_index)
    if asked.map_index >= 0:
        projects = [project for project in projects if project.key.map_index == asked.map_index]
    return projects[0] if projects else None
