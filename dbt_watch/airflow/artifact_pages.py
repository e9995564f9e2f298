"""
Where artifacts are in Airflow's web interface: the address of their pages, who may see them, and the links from the tasks that run dbt.

`airflow.plugin` registers it. Each process of Airflow that loads plugins loads this, so it imports next to nothing: the pages are made in
the api-server, when one is asked for first.
"""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink

from dbt_watch.airflow.web_parts import POD_OPERATORS

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

PREFIX: Final = "/dbt_watch_artifacts"
"""Where Airflow mounts the pages."""

ARTIFACTS_KEY: Final = "dbt_watch_artifacts"
"""The XCom of a task that runs dbt in which stands where its artifacts are, and which."""


class _ArtifactLink(BaseOperatorLink):
    operators: ClassVar[list[Any]] = [*POD_OPERATORS]
    page: ClassVar[str]
    file: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, relative to Airflow's, or nothing where there is no such page; the api-server asks."""
        del operator
        index = -1 if ti_key.map_index is None else ti_key.map_index
        try:
            found = told_of(ti_key.dag_id, ti_key.run_id, ti_key.task_id, index)
        except Exception as error:  # noqa: BLE001 - a link more or less
            log.warning("The artifacts of %s cannot be looked up: %s", ti_key.task_id, error)
            return ""
        if not found or self.file not in found.get("files", {}):
            return ""
        query = {
            "dag_id": ti_key.dag_id,
            "run_id": ti_key.run_id,
            "task_id": ti_key.task_id,
            "map_index": index,
        }
        return f"{PREFIX.removeprefix('/')}/{self.page}?{urlencode(query)}"


class ArtifactsLink(_ArtifactLink):
    """The link to the list of a task's artifacts."""

    name: ClassVar[str] = "dbt artifacts"
    page = "files"
    file = "run_results.json"


class DocsLink(_ArtifactLink):
    """The link to the documentation of a run."""

    name: ClassVar[str] = "dbt docs"
    page = "docs"
    file = "index.html"


def told_of(dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any] | None:
    """Return what the XCom of a task says of its artifacts; None where there is none. It asks the database, in the api-server."""
    from airflow.models.xcom import XComModel  # noqa: PLC0415 - of the api-server alone
    from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    statement = select(XComModel).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
        XComModel.key == ARTIFACTS_KEY,
    )
    with create_session() as session:
        row = session.scalars(statement).first()
        if row is None:
            return None
        value = XCom.deserialize_value(row)
    with contextlib.suppress(ValueError):
        while isinstance(value, str):  # Airflow keeps it as JSON text, in some versions twice so
            value = json.loads(value)
    return value if isinstance(value, dict) else None


def content_at(place: str) -> bytes:
    """Return the content of a file that a task has kept, by Airflow's connections; blocks."""
    from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 - of the api-server alone

    return bytes(ObjectStoragePath(place).read_bytes())


def pages() -> FastAPI:
    """Return the pages: whoever may read the XComs of a DAG may see what its runs have kept."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity  # noqa: PLC0415
    from airflow.api_fastapi.core_api.security import requires_access_dag  # noqa: PLC0415
    from fastapi import Depends, FastAPI  # noqa: PLC0415

    from dbt_watch.page.docs_site import docs_router  # noqa: PLC0415

    app = FastAPI(title="dbt artifacts", openapi_url=None)
    rights = [Depends(requires_access_dag("GET", DagAccessEntity.XCOM))]
    app.include_router(docs_router(told_of, content_at), dependencies=rights)
    return app
