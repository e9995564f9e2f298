"""
The plugin of Airflow that comes with this package: the entry point `airflow.plugins`.

Every process of Airflow that loads plugins loads this one; it imports next to nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from dbt_watch.airflow import artifact_pages, page_plugin
from dbt_watch.airflow.light_triggerer import lighten_if_wanted
from dbt_watch.airflow.web_parts import LateMount


class DbtWatchPlugin(AirflowPlugin):
    """Shows what dbt does and leaves in Airflow's web interface, and makes the triggerer light, as the configuration says."""

    name = "dbt_watch"
    # As Airflow declares them; each process has values of its own, set below.
    fastapi_apps: list[Any] = []  # noqa: RUF012
    external_views: list[Any] = []  # noqa: RUF012
    operator_extra_links: list[Any] = []  # noqa: RUF012

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Run once in each process that loads plugins."""
        lighten_if_wanted()
        artifacts = LateMount(artifact_pages.pages)
        cls.fastapi_apps = [{"app": artifacts, "url_prefix": artifact_pages.PREFIX, "name": "dbt artifacts"}]
        cls.operator_extra_links = [artifact_pages.ArtifactsLink(), artifact_pages.DocsLink()]
        if page_plugin.is_page_wanted():
            page = LateMount(page_plugin.page)
            cls.fastapi_apps += [{"app": page, "url_prefix": page_plugin.PREFIX, "name": cls.name}]
            cls.external_views = page_plugin.external_views()
            cls.operator_extra_links += [page_plugin.PageLink()]
