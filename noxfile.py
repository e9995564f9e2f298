"""
How people run the project: `nox -s demo`, `nox -s tests`, and what CI runs.

Each session makes its own environment; nothing but Python and pip is needed beforehand.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "typing"]

# The first start of anything would compile it otherwise, and Airflow is large.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")
# Where it is only looked at, that would be half a minute for nothing.
UNCOMPILED = {"UV_COMPILE_BYTECODE": "0"}


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example project on a local Kubernetes API and a real Airflow. Options follow `--`, such as --fail."""
    session.install("-e", ".[demo]")
    session.run("dbt-watch", "demo", *session.posargs)


# The oldest pair of Airflow and provider that is supported, and whatever the index holds today.
AIRFLOWS = {
    "newest": (),
    "oldest": ("apache-airflow==3.1.*", "apache-airflow-providers-cncf-kubernetes==10.12.2"),
}
# What depends on their versions; of these, what is marked `newest` does not, and runs on the newest alone.
ON_EACH = (
    "tests/e2e",
    "tests/authoring",
    "tests/planning",
    "tests/sensors",
    "tests/executor",
    "tests/producers",
    "tests/security",
    "tests/test_provider.py",
)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, end to end ones included, on the newest Airflow. `-- --quick`: the fast ones, within two minutes."""
    session.install("-e", ".[tests]")
    if session.posargs:
        run_pytest(session, *session.posargs)
    else:
        run_side_by_side(session)


@nox.session
@nox.parametrize("airflow", list(AIRFLOWS))
def compat(session: nox.Session, airflow: str) -> None:
    """
    Run what depends on Airflow, end to end tests included, on the newest and the oldest that is supported.

    `-- --in-turn`: as one process, the end to end tests last, for a machine that does something else meanwhile.
    """
    session.install("-e", ".[tests]", *AIRFLOWS[airflow])
    wanted = ["-m", "not newest"] if airflow != "newest" else []
    if session.posargs == ["--in-turn"]:
        run_pytest(session, *wanted, *ON_EACH)
    elif session.posargs:
        run_pytest(session, *wanted, *session.posargs)
    else:
        run_side_by_side(session, *wanted, *ON_EACH)


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest as one process."""
    run(session, "pytest", *arguments)


def run_side_by_side(session: nox.Session, *arguments: str) -> None:
    """Run pytest as three processes: tests that share one Airflow and others that are slow, which mostly wait, and all others."""
    run(session, "python", "tests/side_by_side.py", *arguments)


def run(session: nox.Session, *command: str, external: bool = False) -> None:
    """Run tests; when they are interrupted, leave them a minute to end the Airflows that they have started."""
    session.run(*command, interrupt_timeout=60, terminate_timeout=10, external=external)


@nox.session
def selection(session: nox.Session) -> None:
    """Compare thousands of node selections with dbt's own, of two versions; takes about ten minutes."""
    session.install("-e", ".[tests]")
    pythons = [str(dbt_environment(session, version)) for version in ("1.11", "1.12")]
    env = {"DBT_WATCH_SELECTION_EXAMPLES": "2500", "DBT_WATCH_SELECTION_PYTHONS": os.pathsep.join(pythons)}
    session.run("pytest", "tests/selection", "--timeout", "3600", *session.posargs, env=env)


def dbt_environment(session: nox.Session, version: str) -> Path:
    """Make an environment of one dbt version, unless it is there, and give its Python."""
    directory = Path(session.cache_dir) / f"dbt-{version}"
    python = directory / "bin" / "python"
    if not python.exists():
        session.run("uv", "venv", "--python", sys.executable, str(directory), external=True)
    # The source build of this one downloads from the network; dbt works without it.
    overrides = Path(session.create_tmp()) / "overrides.txt"
    overrides.write_text('dbt-core-experimental-parser ; python_version < "3"\n')
    requirements = [f"dbt-core=={version}.*", "dbt-duckdb"]
    command = ["uv", "pip", "install", "--python", str(python), "--override", str(overrides), *requirements]
    session.run(*command, external=True)
    return python


@nox.session
def faults(session: nox.Session) -> None:
    """Strike a run with each fault in turn and print what became of it; takes an hour."""
    session.install("-e", ".[tests]")
    where = (
        "tests/faults",
        "tests/e2e/test_producer_failures.py",
        "tests/e2e/test_executor.py",
        "tests/e2e/test_microbatch.py",
    )
    run_pytest(session, *where, "--faults", *session.posargs)


@nox.session
def k8s_executor(session: nox.Session) -> None:
    """
    Run under Airflow's KubernetesExecutor: whole runs, faults, what a worker pod costs; half an hour. Writes the page's tables.

    `-- TESTS`: just these, and no tables are written.
    """
    # A git bundle is one of the three ways to ship DAGs.
    session.install("-e", ".[tests]", "apache-airflow-providers-git")
    if session.posargs:
        run_pytest(session, "--k8s-executor", *session.posargs)
        return
    figures = "tests/bench/k8s_executor.json"
    run_pytest(session, "tests/k8s_executor", "--k8s-executor", "--k8s-figures", figures)
    peer = str(peer_python(session))
    of_peer = ("-k", "the_peer", "--k8s-executor", "--k8s-figures", figures)
    run(session, peer, "-m", "pytest", "tests/k8s_executor/test_worker_pods.py", *of_peer, external=True)
    for python in ("python", peer):
        session.run(python, "tests/bench/bench_worker_pods.py", "--json", figures, external=True)
    session.run("python", "tests/bench/k8s_executor_report.py", figures)


@nox.session
def clouds(session: nox.Session) -> None:
    """Run the examples for GKE and EKS with the providers' own operators, which are large; takes minutes."""
    session.install("-e", ".[clouds]")
    run_pytest(session, "tests/clouds", *session.posargs)


@nox.session
def profiles(session: nox.Session) -> None:
    """Compare the profiles that are made of Airflow connections with the credentials of dbt's own adapters, which are large."""
    session.install("-e", ".[profiles-tests]", env=UNCOMPILED)
    run_pytest(session, "tests/profiles", *session.posargs)


@nox.session
def server(session: nox.Session) -> None:
    """Run the tests of the server: those that kill its processes, with both queues, and those with a real dbt as well.

    Whole runs of Airflow against it as well. `-- --quick`: those without processes.
    """
    # Without processes, little of what is installed is imported.
    session.install("-e", ".[server-tests]", env=UNCOMPILED if "--quick" in session.posargs else {})
    run_pytest(
        session,
        "tests/server",
        "tests/e2e/test_api_projects.py",
        "tests/demo/test_demo_server.py",
        *(session.posargs or ["--server"]),
    )


@nox.session
def lineage(session: nox.Session) -> None:
    """Run all that OpenLineage is told, whole builds on a real Airflow with a transport included; takes minutes."""
    session.install("-e", ".[tests]")
    run_pytest(
        session, "tests/lineage", "tests/producers/test_lineage_of_builds.py", "--lineage", *session.posargs
    )


@nox.session
def tutorial(session: nox.Session) -> None:
    """Paste the commands of the tutorial into a shell, and look whether they print what the page says; minutes."""
    session.install("-e", ".[tests]")
    run_pytest(session, "tests/demo/test_tutorial.py", "--tutorial", *session.posargs)


@nox.session
@nox.parametrize("airflow", list(AIRFLOWS))
def ui(session: nox.Session, airflow: str) -> None:
    """
    Look at the page in a browser of this machine, in a real Airflow, the newest and the oldest that is supported; minutes.

    `PICTURES=DIR` keeps what was seen. `nox -s "ui(airflow='newest')" -- -k 3000` measures the page of a large project.
    """
    session.install("-e", ".[ui-tests]", *AIRFLOWS[airflow])
    wanted = ["-m", "not newest"] if airflow != "newest" else []
    run_pytest(session, *wanted, "tests/ui", "--ui", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the code in small ways, and list the changes that no unit test notices. A module follows `--`: sensors/hub."""
    session.install("-e", ".[mutation]")
    session.run("python", "tests/mutation/mutation.py", *session.posargs)


@nox.session
def record(session: nox.Session) -> None:
    """Record the example project with dbt 1.8 to 1.13 into tests/recordings. Options follow `--`: --versions 1.11."""
    session.install("uv")
    session.run("python", "tests/record/record.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Damage recorded logs for a minute, and look for what breaks a promise; `-- --seconds 600` for longer."""
    # Nothing but what the core needs: that it does without Airflow is a promise.
    session.install("msgspec", "hypothesis")
    session.install("--no-deps", "-e", ".")
    session.run("python", "tests/fuzz/fuzz_log.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """
    Measure: log to journal, a long journal, a large DAG and its parse, many projects, dbt's log levels, selection.

    Options go to the log levels. `-- scale`: what a task for each node costs, by size and way to start; hours. `-- pods`: one pod,
    several, or one for each node; half an hour. Options follow, such as --sizes 100. `-- server`: a server of dbt. `-- lineage`:
    what OpenLineage is told. `-- assets`: what it costs to tell Airflow of builds.
    """
    session.install("-e", ".[tests]")
    if session.posargs[:1] in (["scale"], ["pods"]):
        bench_beside_peer(session, *session.posargs)
        return
    if session.posargs[:1] == ["assets"]:
        session.run("python", "tests/bench/bench_asset_events.py")
        session.run("python", "tests/bench/bench_assets.py", *session.posargs[1:])
        return
    if session.posargs[:1] == ["server"]:
        session.install("-e", ".[server]")
        session.run("python", "tests/bench/bench_server.py", *session.posargs[1:])
        return
    if session.posargs[:1] == ["lineage"]:
        session.run("python", "tests/bench/bench_lineage.py", *session.posargs[1:])
        return
    for script in (
        "bench_log.py",
        "bench_journal.py",
        "bench_dag.py",
        "bench_parse.py",
        "bench_hubs.py",
        "bench_load.py",
        "bench_profiles.py",
    ):
        session.run("python", f"tests/bench/{script}")
    session.run("python", "tests/bench/bench_log_level.py", *session.posargs)
    session.run("python", "tests/bench/bench_graph.py")


@nox.session
def simulate(session: nox.Session) -> None:
    """Run a project of any size again and again, and see that nothing grows; `-- --sensors 1000 --runs 5`. Ten minutes."""
    session.install("-e", ".[tests]")
    session.run("python", "tests/bench/simulate.py", *session.posargs)


def bench_beside_peer(session: nox.Session, name: str, *options: str) -> None:
    """Measure each way, the peer in an environment of its own, and write the tables and charts of the documentation."""
    peer = peer_python(session)
    figures = f"tests/bench/{name}.json"
    for python in ("python", str(peer)):
        session.run(python, f"tests/bench/bench_{name}.py", "--json", figures, *options, external=True)
    session.run("python", f"tests/bench/{name}_report.py", figures)


def peer_python(session: nox.Session) -> Path:
    """Make an environment that has the peer, astronomer-cosmos, beside all that the tests have, and return its Python."""
    peer = Path(session.cache_dir) / "cosmos" / "bin" / "python"
    if not peer.exists():
        session.run("uv", "venv", "--python", sys.executable, str(peer.parent.parent), external=True)
    packages = ("-e", ".[tests]", "astronomer-cosmos[kubernetes]")
    session.run("uv", "pip", "install", "--python", str(peer), *packages, external=True)
    return peer


@nox.session
def docs(session: nox.Session) -> None:
    """Make a site of the documentation, in which a warning is an error; `-- DIRECTORY` says where, `site` by default."""
    session.install("-e", ".[docs]", env=UNCOMPILED)
    (site,) = session.posargs or ["site"]
    doctrees = str(Path(session.create_tmp()) / "doctrees")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "-d", doctrees, "docs", site)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist into dist/, look into them, and use the commands of a clean installation; a minute or two."""
    session.install("twine", env=UNCOMPILED)
    dist, again = Path("dist").resolve(), Path(session.create_tmp()).resolve() / "from_sdist"
    for directory in (dist, again):
        shutil.rmtree(directory, ignore_errors=True)
    session.run("uv", "build", "--sdist", "--wheel", "--out-dir", str(dist), external=True)
    ((wheel,), (sdist,)) = (list(dist.glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    session.run("uv", "build", "--wheel", "--out-dir", str(again), str(sdist), external=True)
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run(
        "python", "tests/distributions/look.py", str(wheel), str(sdist), *map(str, again.glob("*.whl"))
    )
    installed = Path(session.create_tmp()).resolve() / "installed"
    session.run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(installed), external=True)
    python = str(installed / "bin/python")
    command = ("uv", "pip", "install", "--quiet", "--python", python, f"{wheel}[demo]")
    session.run(*command, external=True, env=UNCOMPILED)
    session.run(python, str(Path("tests/distributions/use.py").resolve()), external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and that imports go downwards only."""
    session.install("-e", ".[lint]", env=UNCOMPILED)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("-e", ".[typing]", env=UNCOMPILED)
    session.run("mypy")
    session.run("pytest", "tests/typing")


@nox.session(python=False)
def ui_build(session: nox.Session) -> None:
    """Check, test and build the front end of the page with npm; `-- --browser` tests it in Chromium as well. What is built is committed."""
    session.chdir("dbt_watch/page/front_end")
    for command in (
        ("npm", "ci"),
        ("npx", "biome", "check"),
        ("npx", "tsc", "--noEmit"),
        ("npx", "vitest", "run", "--project", "unit"),
        ("npx", "vite", "build"),
    ):
        session.run(*command, external=True)
    if "--browser" in session.posargs:
        session.run("npx", "vitest", "run", "--project", "browser", external=True)
