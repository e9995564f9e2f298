"""What is loaded by whom: each in a process of its own."""

import ast
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dbt_watch
from dbt_watch import airflow, core


def loaded_by(code):
    """Return the top-level modules that some code brings in."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=480
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_core_needs_neither_airflow_nor_kubernetes_nor_dbt():
    names = [module.name for module in pkgutil.walk_packages(core.__path__, "dbt_watch.core.")]
    assert len(names) > 20
    loaded = loaded_by("\n".join(f"import {name}" for name in names))
    assert not loaded & {"airflow", "kubernetes", "kubernetes_asyncio", "dbt", "aiohttp"}


def test_localkube_needs_neither_airflow_nor_dbt():
    assert not loaded_by("import dbt_watch.local.localkube") & {"airflow", "dbt", "kubernetes"}


def test_what_airflow_asks_each_package_for_brings_nothing_else_in():
    more = loaded_by("import dbt_watch.provider") - loaded_by("")
    assert {name for name in more if name not in sys.stdlib_module_names} == {"dbt_watch"}


def test_what_only_watches_needs_neither_kubernetes_nor_dbt():
    loaded = loaded_by("import dbt_watch.sensors.operator, dbt_watch.sensors.trigger, dbt_watch.decorators")
    assert not loaded & {"kubernetes", "kubernetes_asyncio", "dbt"}


def test_of_what_is_taken_from_airflow_only_the_modules_for_pods_bring_in_kubernetes():
    names = [module.name for module in pkgutil.walk_packages(airflow.__path__, "dbt_watch.airflow.")]
    without_pods = [name for name in names if not name.rpartition(".")[2].startswith("pod")]
    assert len(without_pods) < len(names)
    loaded = loaded_by("\n".join(f"import {name}" for name in without_pods))
    assert not loaded & {"kubernetes", "kubernetes_asyncio", "dbt"}


def test_what_runs_dbt_imports_nothing_of_openlineage_before_it_is_wanted():
    modules = (
        "dbt_watch.producers.pods.operator, dbt_watch.producers.pods.trigger, dbt_watch.lineage.happenings"
    )
    assert "openlineage" not in loaded_by(f"import {modules}")


def test_no_two_classes_have_one_name():
    """A name stands for one thing in the whole package, so that it can be searched for."""
    names = Counter(
        node.name
        for path in Path(dbt_watch.__file__).parent.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1 and not name.startswith("_")]
