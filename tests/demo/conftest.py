"""One Airflow for all that can be tried on it; `test_local_airflow` ends it, and sees that nothing is left."""

import sys

import pytest

from dbt_watch.local.demo.environment import IMAGE, PROJECT_DIR, WAREHOUSE_DIR, DemoEnvironment
from dbt_watch.local.localkube import Image, Mount


class Stage(DemoEnvironment):
    """
    What the demo runs on, but for the start of dbt, which `test_demo` has in a demo of its own.

    :param warm_dbt: what the image shows besides
    """

    def __init__(self, warm_dbt):
        super().__init__()
        self._warm_dbt = warm_dbt

    def _start_place(self, workspace, project):
        variables = super()._start_place(workspace, project)
        mounts = {PROJECT_DIR: project, WAREHOUSE_DIR: Mount(workspace / "warehouse", shared=True)}
        image = Image(venv=sys.prefix, mounts={**self._warm_dbt, **mounts}, workdir=PROJECT_DIR)
        self.kube.replace_images({IMAGE: image})
        return variables


@pytest.fixture(scope="session")
def stage(warm_dbt):
    with Stage(warm_dbt) as stage:
        stage.set_up(lambda step: None, timeout=600)
        yield stage
