"""
Where the page is in Airflow's web interface: its address, its tabs on DAGs, runs and tasks, and the links from tasks to it.

`airflow.plugin` registers it. Each process of Airflow that loads plugins loads this, so it imports next to nothing: the page
itself is made in the api-server, when it is asked for first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote, urlencode

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

from dbt_watch.airflow.web_parts import POD_OPERATORS, NamedOperator

if TYPE_CHECKING:
    from fastapi import FastAPI

SECTION: Final = "dbt_watch"
OPTION: Final = "page"
PREFIX: Final = "/dbt_watch"
"""Where Airflow mounts the page."""
TAB: Final = "dbt"
"""What a person reads on the tabs."""

_ADDRESS: Final = f"{PREFIX.removeprefix('/')}/run"
# Airflow puts the values in; what it does not know stays as it is, and means nothing.
_TABS: Final = {
    "dag": "dag_id={DAG_ID}",
    "dag_run": "dag_id={DAG_ID}&run_id={RUN_ID}",
    "task": "dag_id={DAG_ID}&task_id={TASK_ID}",
    "task_instance": "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}",
}
_ICON: Final = f"{PREFIX.removeprefix('/')}/assets/icon.svg"


def is_page_wanted() -> bool:
    """
    Return whether the page is to be there, which it is unless the configuration says otherwise.

    :raises airflow.exceptions.AirflowConfigException: when the value is not a boolean
    """
    return bool(conf.getboolean(SECTION, OPTION, fallback=True))


def external_views() -> list[dict[str, Any]]:
    """
    Return the tabs, as a plugin of Airflow has them.

    Their addresses are relative: Airflow's page says by its `base` where it is, behind whatever proxy.
    """
    return [
        {
            "name": TAB,
            "href": f"{_ADDRESS}?{query}",
            "destination": destination,
            "url_route": f"dbt_watch_{destination}",
            "icon": _ICON,
        }
        for destination, query in _TABS.items()
    ]


class PageLink(BaseOperatorLink):
    """The link from a task of a node, and from one that runs dbt, to its place in the page."""

    name: ClassVar[str] = "dbt"
    operators: ClassVar[list[Any]] = [
        NamedOperator("DbtNodeSensor", "dbt_watch.sensors.operator"),
        NamedOperator("DbtApiOperator", "dbt_watch.producers.api.operator"),
        *POD_OPERATORS,
    ]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, relative to Airflow's; the api-server asks."""
        del operator
        query = {"dag_id": ti_key.dag_id, "run_id": ti_key.run_id, "task_id": ti_key.task_id}
        if ti_key.map_index is not None and ti_key.map_index >= 0:
            query["map_index"] = str(ti_key.map_index)
        return f"{_ADDRESS}?{urlencode(query, quote_via=quote)}"


def page() -> FastAPI:
    """Return the page."""
    from dbt_watch.page.app import page_of_airflow  # noqa: PLC0415 - see the docstring of the module

    return page_of_airflow()
