"""What the whole suite shares: the example project, which tests run, and which cluster the end-to-end tests run on."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.local.airflow.processes import ProcessSet, python_module

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# Where most pods of the tests have it. dbt's cache of the project, which saves them seconds, holds for the same path only.
DATABASE = "/tmp/jaffle_shop.duckdb"  # noqa: S108
# Where what dbt makes of the projects is kept between runs; without it, each run has dbt parse them anew.
PARSED = os.environ.get("DBT_WATCH_PARSED")
# What `--quick` leaves out. Of the rest, what asks for a cluster is slow too.
SLOW = (
    "e2e/", "faults/", "fuzz/", "localkube/", "selection/", "typing/", "security/test_rights.py", "security/test_secrets.py",
    "producers/test_real_dbt.py", "sensors/test_hub_model.py", "sensors/test_journal_model.py",
    "demo/test_demo.py", "demo/test_example_project.py", "demo/test_local_airflow.py", "demo/test_stage.py",
)  # fmt: skip
CLUSTERS = {"kube", "cluster"}
# Beside what depends on Airflow stands what depends on dbt, on a text or on nothing at all.
NEWEST = (
    "producers/test_real_dbt.py", "authoring/test_docs.py", "authoring/test_container_script.py",
    "sensors/test_hub_model.py", "sensors/test_journal_model.py",
    "security/test_hostile_log.py", "security/test_hostile_names.py",
)  # fmt: skip
# For runs that are compared with each other.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)


def pytest_addoption(parser):
    group = parser.getgroup("dbt_watch", "a real cluster for the end-to-end tests, instead of the local one")
    group.addoption("--kubeconfig", type=Path, help="the cluster, by its kubeconfig")
    group.addoption(
        "--image", help="an image with dbt-duckdb on PATH and examples/jaffle_shop at /usr/app/jaffle_shop"
    )
    group.addoption("--namespace", default="default", help="where the pods go; it must exist")
    parser.addoption(
        "--faults", action="store_true", help="strike with all faults, not only with the quick ones"
    )
    parser.addoption(
        "--quick", action="store_true", help="an answer within two minutes: leave out what is slow"
    )


def pytest_configure(config):
    # A shell that starts this in the background has it ignore SIGINT, and so all that it starts: but some tests are
    # about a person who presses Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if bool(config.getoption("--kubeconfig")) != bool(config.getoption("--image")):
        raise pytest.UsageError("--kubeconfig and --image go together")


# Before pytest itself looks at the marks that `-m` asks for.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if is_of(item, SLOW) or CLUSTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        if is_of(item, NEWEST):
            item.add_marker(pytest.mark.newest)
        is_fault = item.get_closest_marker("faults") is not None
        if is_fault and not is_quick(item) and not config.getoption("--faults"):
            item.add_marker(pytest.mark.skip(reason="takes long; `nox -s faults` runs it"))
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow") is not None]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def is_of(item, places):
    """Tell whether a test is in one of these directories or files of `tests`."""
    return item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(places)


def is_quick(item):
    """Tell whether a fault strikes in every run of the tests: where the mark has arguments, just with these."""
    mark = item.get_closest_marker("quick")
    return mark is not None and (not mark.kwargs or mark.kwargs.items() <= item.callspec.params.items())


@pytest.fixture(scope="session")
def parse():
    """Give a function that lets dbt write the manifest of a project, with more variables in its environment."""

    def parse(directory, **variables):
        kept = PARSED and not variables and Path(PARSED) / directory.name
        if kept and kept.exists():
            shutil.copytree(kept, directory / "target")
            return directory
        processes = ProcessSet()
        try:
            process = processes.start(
                "dbt parse",
                python_module("dbt.cli.main", "parse", "--profiles-dir", "."),
                env={**os.environ, "JAFFLE_SHOP_DB": DATABASE, **variables},
                log=directory.parent / "parse.log",
                cwd=directory,
            )
            assert process.wait(120) == 0, process.tail()
        finally:
            processes.stop()
        if kept:
            shutil.copytree(directory / "target", kept)
        return directory

    return parse


@pytest.fixture(scope="session")
def project(parse, tmp_path_factory):
    """The example project with a manifest, in a place of its own."""
    return parse(copied("jaffle_shop", tmp_path_factory))


@pytest.fixture(scope="session")
def landed_shop(parse, tmp_path_factory):
    """The example project with sources, likewise."""
    return parse(copied("landed_shop", tmp_path_factory))


def copied(name, tmp_path_factory):
    directory = tmp_path_factory.mktemp("project") / name
    ignore = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    return shutil.copytree(ROOT / "examples" / name, directory, ignore=ignore)


@pytest.fixture(scope="session")
def readme_dag(project):
    """Give a function that puts README's example into a folder, as a file `shop.py` with its manifest."""

    def write(folder):
        (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        (folder / "dbt/shop/target").mkdir(parents=True)
        shutil.copy(project / "target/manifest.json", folder / "dbt/shop/target")
        (folder / "shop.py").write_text(block)

    return write


@pytest.fixture(scope="session")
def graph(project):
    return load_manifest(project / "target/manifest.json")
