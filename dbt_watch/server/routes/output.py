"""The routes to what an invocation wrote: its log, in parts or as it grows, and its artifacts."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from dbt_watch.server.answers import ArtifactList, ArtifactName, Problem, TaskId
from dbt_watch.server.logs import DEFAULT_PIECE, LONGEST_PIECE, read_piece
from dbt_watch.server.logs import follow as follow_log
from dbt_watch.server.routes.dependencies import (
    NOT_FOUND,
    PROBLEMS,
    Sender,
    Server,
    Services,
    find_invocation,
)

router = APIRouter(responses=PROBLEMS)


@router.get(
    "/invocations/{task_id}/log",
    response_class=Response,
    responses={
        200: {
            "description": "What dbt wrote to its standard output and error: its log as JSON, one record a line, and lines that"
            " are none.",
            "content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}},
            "headers": {
                "X-Log-Offset": {
                    "description": "Where the next part begins, in bytes; not with `follow`.",
                    "schema": {"type": "integer"},
                },
                "X-Log-Size": {
                    "description": "The size of the log so far, in bytes; not with `follow`.",
                    "schema": {"type": "integer"},
                },
                "X-Log-Complete": {
                    "description": "`true` when the invocation has ended and nothing follows; not with `follow`.",
                    "schema": {"type": "string", "enum": ["true", "false"]},
                },
            },
        },
        **NOT_FOUND,
        503: {"model": Problem, "description": "As many logs are followed as may be."},
    },
)
def get_log(
    task_id: TaskId,
    server: Server,
    sender: Sender,
    *,
    offset: Annotated[int, Query(ge=0, le=2**62, description="Where to begin, in bytes.")] = 0,
    limit: Annotated[
        int,
        Query(
            ge=1, le=LONGEST_PIECE, description="The most to return, in bytes; of no effect with `follow`."
        ),
    ] = DEFAULT_PIECE,
    follow: Annotated[
        bool, Query(description="Stream the log as it grows, until the invocation has ended.")
    ] = False,
) -> Response:
    """
    Read the log from an offset on.

    The log only grows, so an offset stays valid. A part may end in the middle of a line. A stream that ends does not tell
    whether it was cut: ask for the part from there on, and look at `X-Log-Complete`.
    """
    found = find_invocation(server, task_id, sender)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    if follow:
        if len(server.followers) >= server.settings.limits.followers:
            raise HTTPException(503, "too many logs are followed", {"Retry-After": "5"})
        return StreamingResponse(_followed(server, task_id, offset), media_type="text/plain", headers=headers)
    piece = read_piece(server.files(task_id).log, offset, limit, has_ended=not found.is_open)
    headers |= {
        "X-Log-Offset": str(piece.offset),
        "X-Log-Size": str(piece.size),
        "X-Log-Complete": str(piece.is_complete).lower(),
    }
    return Response(piece.data, media_type="text/plain", headers=headers)


async def _followed(server: Services, task_id: str, offset: int) -> AsyncIterator[bytes]:
    def has_ended() -> bool:
        found = server.store.get(task_id)
        return found is None or not found.is_open

    server.followers.append(task_id)
    try:
        async for data in follow_log(server.files(task_id).log, offset, has_ended):
            yield data
    finally:
        server.followers.remove(task_id)


@router.get("/invocations/{task_id}/artifacts", responses=NOT_FOUND)
def list_artifacts(task_id: TaskId, server: Server, sender: Sender) -> ArtifactList:
    """List what dbt wrote; there is nothing before it has ended."""
    find_invocation(server, task_id, sender)
    return ArtifactList(artifacts=server.files(task_id).artifacts())


@router.get(
    "/invocations/{task_id}/artifacts/{name}",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The artifact.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **NOT_FOUND,
    },
)
def get_artifact(task_id: TaskId, name: ArtifactName, server: Server, sender: Sender) -> Response:
    """Read an artifact: run_results.json, manifest.json, catalog.json, sources.json or semantic_manifest.json."""
    find_invocation(server, task_id, sender)
    files = server.files(task_id)
    if name not in files.artifacts():
        raise HTTPException(404, "there is no such artifact")
    return FileResponse(files.artifact(name), media_type="application/json")
