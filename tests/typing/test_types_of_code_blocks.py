"""What the pages show of Python and is no excerpt of an example has the right types, by mypy."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from code_blocks import python_blocks, without_indentation

ROOT = Path(__file__).parents[2]
# What the pages take for granted in blocks that are a part of a file.
GIVEN = {
    "docs/authoring.md": """
        from typing import Any
        from airflow.sdk import task
        from dbt_watch import dbt_build, dbt_k8s_project
        @task
        def land_orders() -> str:
            return "batch-1"
        @task
        def publish() -> None: ...
        shop: Any = None
    """,
    "docs/executor.md": """
        from airflow.sdk import dag
        from dbt_watch import dbt_k8s_project
    """,
    "docs/kubernetes-executor.md": """
        from dbt_watch import PodSettings, dbt_k8s_project
    """,
    "docs/localkube.md": """
        from collections.abc import Collection
        from dbt_watch.local.localkube import LocalKube
        kube = LocalKube({})
        issued: Collection[str] = ()
        rules: list[dict[str, list[str]]] = []
    """,
    "docs/security.md": """
        from dbt_watch import dbt_k8s_project
    """,
}
# The stub of `airflow.sdk` (3.3.2) lacks names that the module has, and that Airflow's own guide imports from there.
NOT_IN_STUB = {
    f'Module "airflow.sdk" has no attribute "{name}"  [attr-defined]'
    for name in ("AsyncCallback", "DeadlineAlert", "DeadlineReference")
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What mypy finds wrong, by the module that it is in."""
    pytest.importorskip("mypy")
    package = tmp_path_factory.mktemp("pages") / "documented"
    package.mkdir()
    (package / "__init__.py").touch()
    for block in python_blocks():
        given = textwrap.dedent(GIVEN.get(block.page, ""))
        (package / f"{module_of(block)}.py").write_text(f"{given}\n{without_indentation(block)}")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(package)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    errors = {}
    for line in done.stdout.splitlines():
        match = re.search(r"(\w+)\.py:\d+: error: (.*)", line)
        if match:
            errors.setdefault(match[1], []).append(match[2])
    return errors


def module_of(block):
    return re.sub(r"\W", "_", str(block))


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_a_block_of_python_has_the_right_types(block, found):
    assert set(found.get(module_of(block), [])) <= NOT_IN_STUB


def test_what_is_left_to_airflow_is_still_wrong_there(found):
    assert {text for texts in found.values() for text in texts} >= NOT_IN_STUB
