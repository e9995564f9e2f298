"""
The plugin of Airflow that comes with this package: the entry point `airflow.plugins`.

Every process of Airflow that loads plugins loads this one; it imports next to nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from dbt_watch.airflow.artifact_pages import PREFIX, ArtifactsLink, DocsLink, PagesMount
from dbt_watch.airflow.light_triggerer import lighten_if_wanted


class DbtWatchPlugin(AirflowPlugin):
    """Shows the artifacts of dbt, and makes the triggerer light, where the configuration asks for it."""

    name = "dbt_watch"
    fastapi_apps: list[Any] = [{"app": PagesMount(), "url_prefix": PREFIX, "name": "dbt artifacts"}]  # noqa: RUF012 - as Airflow declares it
    operator_extra_links: list[Any] = [ArtifactsLink(), DocsLink()]  # noqa: RUF012

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Run once in each process that loads plugins."""
        lighten_if_wanted()
