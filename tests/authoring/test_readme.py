"""The README's example is a DAG as it stands."""

import re
import runpy
import shutil
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def shop(project, tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "shop.py").write_text(block.replace("\nshop()\n", "\nmade = shop()\n"))
    (tmp_path / "dbt/shop/target").mkdir(parents=True)
    shutil.copy(project / "target/manifest.json", tmp_path / "dbt/shop/target")
    return runpy.run_path(str(tmp_path / "shop.py"))["made"]


def test_the_readmes_example_builds_what_it_says(shop):
    tasks = shop.task_dict
    assert {
        "land_orders",
        "build.dbt_build",
        "build.customers",
        "build.customers.test",
        "build.enough",
    } <= tasks.keys()
    assert "build.stg_orders" not in tasks, "only what is tagged nightly"
    assert tasks["build.dbt_build"].upstream_task_ids == {"land_orders"}
    assert tasks["publish"].upstream_task_ids == {"build.customers.test"}
    assert tasks["build.dbt_build"].retries == 2
