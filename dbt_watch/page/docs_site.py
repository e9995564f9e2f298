"""
The artifacts of a task in Airflow's web interface: a list of them, each of them, and the pages of `dbt docs`.

`docs_router` makes the routes; `airflow.artifact_pages` says who may ask, and has Airflow mount them. What they show came out of a pod. So a file
is only ever handed out for download, and the pages of `dbt docs` run in a sandbox: they can neither act as the person who looks at them nor reach
anything else.
"""

# No `from __future__ import annotations` here: FastAPI reads the types.
import html
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel

from dbt_watch.core.log.enclosed_files import CATALOG, INDEX, MANIFEST

Told = Callable[[str, str, str, int], Mapping[str, Any] | None]
"""Returns what the XCom of a task says of its artifacts, by the ids of DAG, run and task and the map index."""

# dbt's own words for where a page without a server has these: `dbt docs generate --static` puts them there.
_PLACES: Final = {MANIFEST: '"MANIFEST.JSON INLINE DATA"', CATALOG: '"CATALOG.JSON INLINE DATA"'}

_SANDBOX: Final = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; frame-ancestors 'self'"
)
_PLAIN: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_SAFE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class TaskAddress(BaseModel):
    """Which instance of a task is meant."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


Task = Annotated[TaskAddress, Depends()]


def docs_router(told: Told, read: Callable[[str], bytes]) -> APIRouter:
    """
    Return the routes.

    :param told: says where a task's artifacts are; nothing else is ever read
    :param read: returns the content of a file there; blocks
    """
    router = APIRouter()

    def artifacts_of(task: TaskAddress) -> Mapping[str, Any]:
        found = told(task.dag_id, task.run_id, task.task_id, task.map_index)
        if not found or not isinstance(found.get("place"), str) or not isinstance(found.get("files"), dict):
            raise HTTPException(404, "this task has no artifacts")
        return found

    def content_of(found: Mapping[str, Any], name: str) -> bytes:
        if name not in found["files"]:
            raise HTTPException(404, f"this task has no {name}")
        try:
            return read(f"{found['place']}/{name}")
        except Exception as error:
            raise HTTPException(502, f"{name} cannot be read: {type(error).__name__}") from error

    @router.get("/files")
    def files(task: Task) -> HTMLResponse:
        """List the artifacts of a task."""
        return HTMLResponse(
            _list(artifacts_of(task), task), headers={**_SAFE, "Content-Security-Policy": _PLAIN}
        )

    @router.get("/file")
    def file(task: Task, name: Annotated[str, Query()]) -> Response:
        """Hand out one of them."""
        content = content_of(artifacts_of(task), name)
        disposition = f'attachment; filename="{name}"'
        return Response(
            content,
            media_type="application/octet-stream",
            headers={**_SAFE, "Content-Security-Policy": "sandbox", "Content-Disposition": disposition},
        )

    @router.get("/docs")
    def docs(task: Task) -> HTMLResponse:
        """Show the pages of `dbt docs`, everything in one file."""
        found = artifacts_of(task)
        page = content_of(found, INDEX).decode(errors="replace")
        for name, place in _PLACES.items():
            page = page.replace(place, _for_a_script(content_of(found, name)))
        return HTMLResponse(page, headers={**_SAFE, "Content-Security-Policy": _SANDBOX})

    return router


def _list(found: Mapping[str, Any], task: TaskAddress) -> str:
    query = task.model_dump()
    links = {
        f"file?{urlencode({**query, 'name': name})}": (name, f" ({int(size):,} bytes)")
        for name, size in found["files"].items()
    }
    if {INDEX, *_PLACES} <= set(found["files"]):
        links[f"docs?{urlencode(query)}"] = ("the documentation of this run", "")
    rows = "".join(
        f'<li><a href="{html.escape(address)}">{html.escape(name)}</a>{more}</li>'
        for address, (name, more) in links.items()
    )
    title, place = html.escape(task.task_id), html.escape(found["place"])
    return f'<!doctype html><meta charset="utf-8"><title>dbt artifacts</title><h1>{title}</h1><p>{place}</p><ul>{rows}</ul>'


def _for_a_script(content: bytes) -> str:
    """Return JSON text that ends no script, and holds nothing that a script takes for something else than JSON does."""
    text = content.decode(errors="replace").replace("<", "\\u003c")
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
