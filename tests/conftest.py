"""What the whole suite shares: the example project, which tests run, and which cluster the end-to-end tests run on."""

import contextlib
import fcntl
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from harness import DATABASE, NOTICED_SOON, Desk, PreloadedAirflow
from hypothesis import HealthCheck, settings

from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.local.airflow.processes import ProcessSet, python_module
from dbt_watch.local.airflow.waiting import CannotRun

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# Where what dbt makes of the examples is kept for other processes, and other runs; without it, each has dbt parse them anew.
PARSED = os.environ.get("DBT_WATCH_PARSED")
# What `--quick` leaves out. Of the rest, what asks for a cluster is slow too.
SLOW = (
    "clouds/", "e2e/", "faults/", "page/test_in_airflow.py", "ui/", "fuzz/", "k8s_executor/", "localkube/", "selection/", "typing/", "security/test_rights.py", "security/test_secrets.py",
    "producers/test_real_dbt.py", "testing/test_dag_tests_page.py", "sensors/test_hub_model.py", "sensors/test_journal_model.py",
    "demo/test_built_project.py", "demo/test_demo.py", "demo/test_local_airflow.py", "demo/test_tutorial.py", "local_run/test_run.py", "local_run/test_what_a_dag_asks_for.py", "test_warm_dbt.py",
)  # fmt: skip
CLUSTERS = {"kube", "cluster"}
# Where nothing is slow.
QUICK = (
    "authoring/", "core/", "executor/", "migration/", "planning/", "profiles/", "rendering/", "reporting/", "scaffold/",
    "test_exceptions.py", "test_messages.py",
)  # fmt: skip
# Where all tests are that ask for `airflow`, and which of them start or clear runs themselves.
ON_AIRFLOW = ("e2e/", "faults/")
STARTERS = (
    "e2e/test_clears.py",
    "e2e/test_marks.py",
    "e2e/test_microbatch.py",
    "e2e/test_producer_failures.py",
)
RESTARTERS = ("e2e/test_with_a_light_triggerer.py",)
# Beside what depends on Airflow stands what depends on dbt, on a text or on nothing at all.
NEWEST = (
    "producers/test_real_dbt.py", "authoring/test_docs.py", "authoring/test_container_script.py",
    "sensors/test_hub_model.py", "sensors/test_journal_model.py", "sensors/test_light_triggerer.py",
    "security/test_hostile_log.py", "security/test_hostile_names.py", "planning/test_drawing.py",
)  # fmt: skip
# A machine that does much else may take long for any example, and for drawing it.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("patient", **PATIENT)
# For runs that are compared with each other.
settings.register_profile("repeatable", derandomize=True, database=None, **PATIENT)
settings.load_profile("patient")
# Of what is imported nothing is garbage, and to look for some there takes as long as to collect the tests; see
# `pytest_collection_finish`.
gc.disable()


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
        "--server", action="store_true", help="run also what starts servers of dbt, and kills them"
    )
    parser.addoption(
        "--lineage", action="store_true", help="run also whole builds that OpenLineage is told of"
    )
    parser.addoption(
        "--k8s-executor",
        action="store_true",
        help="run all that runs under Airflow's KubernetesExecutor, not just one run",
    )
    parser.addoption(
        "--k8s-figures", type=Path, metavar="FILE", help="write what is counted there into a file"
    )
    parser.addoption(
        "--tutorial",
        action="store_true",
        help="paste the commands of the tutorial, which starts several Airflows",
    )
    parser.addoption("--ui", action="store_true", help="look at the page in a browser, in a real Airflow")
    parser.addoption(
        "--quick", action="store_true", help="an answer within two minutes: leave out what is slow"
    )
    parser.addoption(
        "--light",
        action="store_true",
        help="let the triggerer of the end-to-end tests and the faults be light",
    )
    parser.addoption(
        "--part",
        choices=["airflow", "slow", "others"],
        help="a part of the tests: what runs on the shared Airflow, what else is slow, or all others; `side_by_side.py` runs all",
    )


def pytest_configure(config):
    # A shell that starts this in the background has it ignore SIGINT, and so all that it starts: but some tests are
    # about a person who presses Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if bool(config.getoption("--kubeconfig")) != bool(config.getoption("--image")):
        raise pytest.UsageError("--kubeconfig and --image go together")


# The marks of tests that run in a session of nox alone, which has an option of the same name, and why.
SESSIONS = {
    "server": "takes long; `nox -s server` runs it",
    "lineage": "takes long; `nox -s lineage` runs it",
    "k8s_executor": "takes long; `nox -s k8s_executor` runs it",
    "tutorial": "takes minutes; `nox -s tutorial` runs it",
    "ui": "needs a browser; `nox -s ui` runs it",
}


# Before pytest itself looks at the marks that `-m` asks for.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if is_of(item, SLOW) or CLUSTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        if is_of(item, NEWEST):
            item.add_marker(pytest.mark.newest)
        for mark, reason in SESSIONS.items():
            if item.get_closest_marker(mark) and not config.getoption(f"--{mark.replace('_', '-')}"):
                item.add_marker(pytest.mark.skip(reason=reason))
        is_fault = item.get_closest_marker("faults") is not None
        if is_fault and not is_quick(item) and not config.getoption("--faults"):
            item.add_marker(pytest.mark.skip(reason="takes long; `nox -s faults` runs it"))
    items.sort(key=turn)
    if config.getoption("--quick"):
        keep(config, items, lambda item: item.get_closest_marker("slow") is None)
    if part := config.getoption("--part"):
        if slow := [item.nodeid for item in items if is_of(item, QUICK) and item.get_closest_marker("slow")]:
            raise pytest.UsageError(
                f"slow, and so missed where `QUICK` says that nothing is: {', '.join(slow)}"
            )
        keep(config, items, lambda item: part_of(item) == part)


def pytest_collection_finish():
    """Look for garbage from now on, but never among the modules and the tests that are there by now."""
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path, config):
    """Save a part the time to import what only has tests of the other parts."""
    part = config.getoption("--part")
    if part == "airflow" and collection_path.parent == TESTS:
        return f"{collection_path.name}/" not in ON_AIRFLOW
    if part == "others" and is_in(collection_path, SLOW):
        return True
    if part == "slow" and is_in(collection_path, QUICK):
        return True
    return None


def turn(item):
    """
    Return when the turn of a test comes.

    An Airflow costs a share of the machine even when nothing runs on it: after its tests comes nothing else. First of these are
    those that start runs of their own; meanwhile others go on, at which the tests after them look. Last are those that leave it with
    another triggerer.
    """
    if not is_on_airflow(item):
        return 0
    if is_of(item, STARTERS):
        return 1
    return 3 if is_of(item, RESTARTERS) else 2


def is_on_airflow(item):
    """Tell whether a test runs on the Airflow of all end-to-end tests."""
    return is_of(item, ON_AIRFLOW) and "airflow" in item.fixturenames


def part_of(item):
    """Return the part of the tests that one belongs to, see `side_by_side.py`."""
    if is_on_airflow(item):
        return "airflow"
    return "slow" if item.get_closest_marker("slow") else "others"


def keep(config, items, is_kept):
    """Deselect all tests but some."""
    kept = {is_it: [item for item in items if bool(is_kept(item)) is is_it] for is_it in (True, False)}
    config.hook.pytest_deselected(items=kept[False])
    items[:] = kept[True]


def is_of(item, places):
    """Tell whether a test is in one of these directories or files of `tests`."""
    return is_in(item.path, places)


def is_in(path, places):
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix().startswith(places)


def is_quick(item):
    """Tell whether a fault strikes in every run of the tests: where the mark has arguments, just with these."""
    mark = item.get_closest_marker("quick")
    return mark is not None and (not mark.kwargs or mark.kwargs.items() <= item.callspec.params.items())


@pytest.fixture(autouse=True)
def secrets_are_forgotten():
    """Have Airflow forget the secrets that a test made up: it would mask them in the texts of all tests that follow."""
    if module := sys.modules.get("airflow.sdk._shared.secrets_masker"):
        masker = module._secrets_masker()
        # Its own stay, such as the address of its database.
        patterns, replacer = set(masker.patterns), masker.replacer
    yield
    if module:
        masker.patterns, masker.replacer = patterns, replacer


@pytest.fixture(scope="session")
def parse():
    """Return a function that lets dbt write the manifest of a project, with more variables in its environment."""

    def parse(directory, **variables):
        processes = ProcessSet()
        try:
            process = processes.start(
                "dbt parse",
                python_module("dbt.cli.main", "parse", "--profiles-dir", "."),
                env={**os.environ, "JAFFLE_SHOP_DB": DATABASE, **variables},
                log=directory.parent / "parse.log",
                cwd=directory,
            )
            assert process.wait(600) == 0, process.tail()
        finally:
            processes.stop()
        return directory

    return parse


@pytest.fixture(scope="session")
def project(parsed_example):
    """The example project with a manifest, in a place of its own."""
    return parsed_example("jaffle_shop")


@pytest.fixture(scope="session")
def landed_shop(parsed_example):
    """The example project with sources, likewise."""
    return parsed_example("landed_shop")


@pytest.fixture(scope="session")
def metered_shop(parsed_example):
    """The example project with a microbatch model, likewise."""
    return parsed_example("metered_shop")


@pytest.fixture(scope="session")
def parsed_example(parse, tmp_path_factory):
    """Return a function that copies one of the examples, and lets dbt write its manifest."""

    def make(name):
        directory = copied(name, tmp_path_factory)
        if not PARSED:
            return parse(directory)
        kept = Path(PARSED) / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Another process may be at it.
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                # Whole, or not at all, even where this process is ended.
                draft = kept.with_suffix(".draft")
                shutil.rmtree(draft, ignore_errors=True)
                shutil.copytree(parse(directory) / "target", draft).rename(kept)
                return directory
        return shutil.copytree(kept, directory / "target").parent

    return make


def copied(name, tmp_path_factory):
    directory = tmp_path_factory.mktemp("project") / name
    ignore = shutil.ignore_patterns("target", "logs", "*.duckdb*")
    return shutil.copytree(ROOT / "examples" / name, directory, ignore=ignore)


@pytest.fixture(scope="session")
def warm_dbt(tmp_path_factory):
    """What an image shows besides, so that its dbt need not be imported in each pod."""
    from dbt_watch.local.localkube import Mount  # noqa: PLC0415 - few tests need it, and it takes a while

    directory = tmp_path_factory.mktemp("warm_dbt")
    sockets, program = directory / "sockets", directory / "dbt"
    sockets.mkdir()
    program.write_text(f"#!{sys.executable} -IS\n{(TESTS / 'client_of_warm_dbt.py').read_text()}")
    program.chmod(0o755)
    processes = ProcessSet()
    try:
        processes.start(
            "warm dbt",
            # Isolated, since dbt takes all modules on its path whose names begin with `dbt_` for plugins.
            [sys.executable, "-I", str(TESTS / "warm_dbt.py"), "socket"],
            env=os.environ,
            log=directory / "warm_dbt.log",
            cwd=sockets,
        )
        # A socket works only where the directory itself is mounted, not a copy of it.
        yield {
            f"{sys.prefix}/bin/dbt": Mount(program, shared=True),
            "/run/warm_dbt": Mount(sockets, shared=True),
        }
    finally:
        processes.stop()


@pytest.fixture(scope="session")
def run_dbt():
    """Return a function that runs dbt once for each call, all of them in one process, and gives the exit codes; see `run_dbt.py`."""

    def run(calls):
        done = subprocess.run(
            [sys.executable, str(TESTS / "run_dbt.py")],
            input=json.dumps(calls),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def readme_dag(project):
    """Return a function that puts README's example into a folder, as a file `shop.py` with its manifest."""

    def write(folder):
        (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        (folder / "dbt/shop/target").mkdir(parents=True)
        shutil.copy(project / "target/manifest.json", folder / "dbt/shop/target")
        (folder / "shop.py").write_text(block)

    return write


@pytest.fixture(scope="session")
def graph(project):
    return load_manifest(project / "target/manifest.json")


@pytest.fixture(scope="session")
def postgres():
    """The address of a Postgres that nothing but these tests uses; it listens on a socket in a directory."""
    from local_postgres import local_postgres  # noqa: PLC0415 - few tests need it, and it takes a while

    with local_postgres("airflow", "warehouse", durable=False) as host:
        yield host


# With all faults the scheduler dies too.
WITH_FAULTS = {
    "AIRFLOW__CORE__PARALLELISM": "10",
    # The tasks of a scheduler that died are looked for as often.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
}


class RevivedAirflow(PreloadedAirflow):
    """
    An Airflow whose scheduler is started again, as whatever runs one does, when it has ended of one known cause.

    With LocalExecutor it ends when the api-server answers 5xx to a task that is about to start, and goes on to do so until
    the worker gives up: that error cannot be handed from one process to another (Airflow 3.3.2, its issue 64476).
    """

    @contextlib.contextmanager
    def frozen(self, name):
        """For as long as a block lasts, a part does nothing, as on a machine that is suspended or out of memory."""
        parent = psutil.Process(self.component_pid(name))
        processes = [parent, *parent.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def check(self):
        try:
            super().check()
        except CannotRun as error:
            if "HTTPStatusError.__init__() missing" not in str(error):
                raise
            self.restart_component("scheduler", timeout=240)


@pytest.fixture(scope="session")
def airflow(postgres, pytestconfig, tmp_path_factory):
    """The Airflow of all end-to-end tests, in whose folder they put their DAGs with `dags_in`."""
    from local_postgres import airflow_on  # noqa: PLC0415 - few tests need them, and they take a while
    from proxy import Proxy  # noqa: PLC0415

    env = {
        **airflow_on(postgres),
        **NOTICED_SOON,
        "AIRFLOW__CORE__PARALLELISM": "6",
        # A file that has changed is parsed at once all the same.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        # As often as by default. It goes through all runs each time, and through the database when there are none.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    }
    if pytestconfig.getoption("--light"):
        env["AIRFLOW__DBT_WATCH__LIGHT_TRIGGERER"] = "True"
    folder, keep_home = tmp_path_factory.mktemp("dags"), bool(os.environ.get("KEEP_AIRFLOW"))
    if not pytestconfig.getoption("--faults"):
        with PreloadedAirflow(folder, env=env, keep_home=keep_home) as running:
            yield running
        return
    running = RevivedAirflow(folder, env=env | WITH_FAULTS, keep_home=keep_home)
    with Proxy(running.url) as proxy:
        running.proxy = proxy
        running.env["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{proxy.url}/execution/"
        with running:
            yield running


@pytest.fixture(scope="session")
def empty_airflow(tmp_path_factory):
    """A directory with an empty database of Airflow, `airflow.db`."""
    template = tmp_path_factory.mktemp("airflow")
    Desk(template).python("-m", "airflow", "db", "migrate")
    return template


@pytest.fixture(scope="session")
def desk(empty_airflow):
    """Return a function that makes a desk in a directory that has a folder `dags`, with a database of its own."""

    def make(home, env=()):
        shutil.copy(empty_airflow / "airflow.db", home)
        return Desk(home, env)

    return make
