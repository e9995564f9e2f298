"""The example project by a server, each time in another way."""

import os
from datetime import datetime

from airflow.sdk import dag

from dbt_watch import dbt_api_project


def case(dag_id, **arguments):
    @dag(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
    def make():
        @dbt_api_project(os.environ["JAFFLE_SHOP_MANIFEST"], select="+customers", tests="none", **arguments)
        def shop(): ...

        shop()

    make()


case("api_deferred", deferrable=True)
case("api_refused", conn_id="dbt_api_refused", project_dir="jaffle_shop")
