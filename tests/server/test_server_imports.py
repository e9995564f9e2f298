"""What a server loads, and what it does without."""

import pkgutil
import subprocess
import sys

from dbt_watch import server

FOREIGN = ("airflow", "kubernetes", "kubernetes_asyncio", "dbt", "aiohttp")


def test_the_server_needs_neither_airflow_nor_kubernetes_nor_dbt():
    names = [module.name for module in pkgutil.walk_packages(server.__path__, "dbt_watch.server.")]
    assert len(names) > 20
    code = "\n".join([*(f"import {name}" for name in names), "import sys", "print(*sys.modules)"])
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not set(FOREIGN) & set(loaded)
