"""
The page's back end: a FastAPI application, which Airflow's api-server mounts at `/dbt_watch`.

`airflow.page_plugin` makes it when it is asked for first. All it answers with is relative to its own address, so it may be behind
any proxy.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from dbt_watch.airflow.api_server import RunDatabase, root_path, viewer_rights
from dbt_watch.airflow.artifact_pages import content_at
from dbt_watch.page.headers import SafeHeaders
from dbt_watch.page.node_files import ArtifactReader
from dbt_watch.page.readers import ReaderRegistry
from dbt_watch.page.routes import data, pages

_PAGE = "/run"


def page_of_airflow() -> FastAPI:
    """Return the page of the api-server that this process is."""
    return create_app(RunDatabase(), viewer_rights(), root_path())


def create_app(
    database: RunDatabase, rights: list[Any], root: str, read: Callable[[str], bytes] = content_at
) -> FastAPI:
    """
    Make the application.

    :param database: what Airflow knows
    :param rights: what a route depends on that shows something of a DAG
    :param root: the path below which Airflow is reached, with a slash at its end
    :param read: returns the content of an artifact by its place; blocks
    """
    app = FastAPI(title="dbt-watch", openapi_url=None)
    app.state.readers = ReaderRegistry(database)
    app.state.artifacts = ArtifactReader(read)
    app.include_router(data.router, dependencies=rights)
    app.include_router(pages.router, dependencies=rights)
    # Of no secret, and the same for everybody.
    app.mount("/assets", _Assets(directory=pages.STATIC / "assets", check_dir=False))
    app.add_middleware(SafeHeaders)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for these alone
        if not request.url.path.endswith(_PAGE):
            return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
        if not getattr(request.state, "is_signed_in", False):
            wanted = f"{root}dbt_watch{_PAGE}?{request.url.query}"
            return RedirectResponse(f"../api/v2/auth/login?next={quote(wanted, safe='')}", 307)
        return PlainTextResponse(f"{error.status_code}: {error.detail}", error.status_code)

    app.add_exception_handler(HTTPException, refuse)
    return app


class _Assets(StaticFiles):
    """The files of the front end, whose names change with their content."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
