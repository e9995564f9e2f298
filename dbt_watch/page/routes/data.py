"""The data of the page, as JSON, and its events."""

from typing import Any, Final

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from dbt_watch.page.events import events
from dbt_watch.page.node_files import files_of
from dbt_watch.page.nodes import details_of
from dbt_watch.page.projects import projects_of
from dbt_watch.page.readers import in_thread
from dbt_watch.page.routes.asked import Asked, chosen_of, reader_of, registry_of, run_of

MAX_RUNS: Final = 100

router = APIRouter(prefix="/api")


def _json(value: Any) -> Response:
    content = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(content, media_type="application/json")


@router.get("/runs")
async def get_runs(request: Request, limit: int = 20) -> Response:
    """Answer with the last runs of a DAG."""
    database, dag_id = registry_of(request).database, Asked.by(request).dag_id

    def runs() -> list[Any]:
        return database.runs(dag_id, limit=min(max(limit, 1), MAX_RUNS))

    return _json({"runs": [run._asdict() for run in await in_thread(runs)]})


@router.get("/projects")
async def get_projects(request: Request) -> Response:
    """Answer with the projects of a run, and which of them and which node a task belongs to."""
    asked = Asked.by(request)
    run = await run_of(request, asked)
    projects = await in_thread(projects_of, registry_of(request).database, asked.dag_id, run.run_id)
    selected = None
    chosen = chosen_of(projects, asked)
    if asked.task_id is not None and chosen is not None:
        reader = await registry_of(request).of(chosen.key)
        node = next((node for node, task in reader.source.task_of.items() if task == asked.task_id), None)
        selected = {"group_id": chosen.key.group, "map_index": chosen.key.map_index, "node": node}
    return _json(
        {
            "dag_id": asked.dag_id,
            "run_id": run.run_id,
            "run_state": run.state,
            "projects": [project.fields() for project in projects],
            "selected": selected,
        }
    )


@router.get("/record")
async def get_record(request: Request) -> Response:
    """Answer with all that is known of a project in a run."""
    return _json(await (await reader_of(request)).record())


@router.get("/changes")
async def get_changes(request: Request) -> Response:
    """Answer with what has changed since a version."""
    reader = await reader_of(request)
    return _json(reader.changes(Asked.by(request).since))


@router.get("/events")
async def get_events(request: Request) -> Response:
    """Send what changes, as it does."""
    reader = await reader_of(request)
    last = request.headers.get("last-event-id", "")
    since = int(last) if last.isdecimal() else Asked.by(request).since
    # A proxy must pass each event on at once.
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store, no-transform"}
    return StreamingResponse(events(reader, since), media_type="text/event-stream", headers=headers)


@router.get("/history")
async def get_history(request: Request) -> Response:
    """Answer with how long each node took in earlier runs."""
    reader = await reader_of(request)
    nodes = reader.source.nodes | reader.source.results.keys()
    return _json(await in_thread(reader.history.fields, nodes or reader.history.nodes))


@router.get("/node")
async def get_node(request: Request, node: str = "") -> Response:
    """Answer with what is known of one node beside its record."""
    reader = await reader_of(request)
    details = await in_thread(details_of, reader, node)
    if details is None:
        raise HTTPException(404, "there is no such node")
    return _json(details)


@router.get("/files")
async def get_files(request: Request, node: str = "") -> Response:
    """Answer with what only a manifest and dbt's artifacts know of a node: its columns and its compiled SQL. May take seconds."""
    reader = await reader_of(request)
    found = await in_thread(files_of, reader.source, request.app.state.artifacts, node)
    if found is None:
        raise HTTPException(404, "there is no such node")
    return _json(found)
