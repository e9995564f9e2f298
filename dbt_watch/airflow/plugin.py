"""
The plugin of Airflow that comes with this package: the entry point `airflow.plugins`.

Every process of Airflow that loads plugins loads this one; it imports next to nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from dbt_watch.airflow.light_triggerer import lighten_if_wanted
from dbt_watch.airflow.page_plugin import PREFIX, PageLink, PageMount, external_views, is_page_wanted


class DbtWatchPlugin(AirflowPlugin):
    """Shows what dbt does in Airflow's web interface, and makes the triggerer light, where the configuration asks for it."""

    name = "dbt_watch"
    # As Airflow declares them; each process has a value of its own, set below.
    fastapi_apps: list[Any] = []  # noqa: RUF012
    external_views: list[Any] = []  # noqa: RUF012
    operator_extra_links: list[Any] = []  # noqa: RUF012

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:
        """Run once in each process that loads plugins."""
        lighten_if_wanted()
        if is_page_wanted():
            cls.fastapi_apps = [{"app": PageMount(), "url_prefix": PREFIX, "name": cls.name}]
            cls.external_views = external_views()
            cls.operator_extra_links = [PageLink()]
