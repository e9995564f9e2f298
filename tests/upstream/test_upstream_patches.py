"""That the patches for Airflow in docs/upstream apply to the release they are made from, and do there what they promise."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import airflow
import pytest

HERE = Path(__file__).parent
UPSTREAM = HERE.parents[1] / "docs/upstream"
PATCHES = sorted(UPSTREAM.glob("*.patch"))
MADE_FROM = "3.3.2"
CODE = Path("airflow-core/src/airflow")
# Where Airflow's repository has what a release has in other places.
ELSEWHERE = {Path("shared/observability/src/airflow_shared"): "_shared"}

pytestmark = pytest.mark.skipif(
    version("apache-airflow-core") != MADE_FROM, reason=f"the patches are for Airflow {MADE_FROM}"
)


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """Return a directory laid out as Airflow's repository, with the installed Airflow in it and the patches applied."""
    root = tmp_path_factory.mktemp("airflow")
    installed = Path(airflow.__file__).parent
    (root / CODE).mkdir(parents=True)
    link_all(installed, root / CODE)
    for name in sorted(set().union(*map(files_of, PATCHES))):
        if source := find_installed(Path(name), installed):
            copy_to(root / name, source, root / CODE, installed)
    for patch in PATCHES:
        # Not the repository of whoever runs the tests, should the directory be inside of it.
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
        subprocess.run(["git", "apply", "--whitespace=error", patch], cwd=root, env=env, check=True)
    return root


def files_of(patch):
    names = [
        line.removeprefix("+++ b/") for line in patch.read_text().splitlines() if line.startswith("+++ b/")
    ]
    assert names
    return set(names)


def find_installed(name, installed):
    """Return the file that a release has for one of the repository; nothing for tests, which it does not have."""
    if name.is_relative_to(CODE):
        return installed / name.relative_to(CODE)
    for directory, place in ELSEWHERE.items():
        if name.is_relative_to(directory):
            return installed / place / name.relative_to(directory)
    assert "tests" in name.parts
    return None


def link_all(source, target):
    for entry in source.iterdir():
        if entry.name == "__pycache__":
            # What is compiled holds for a link to its source, and not for a copy that was changed; but none is to be written there.
            (target / entry.name).mkdir()
            for compiled in entry.iterdir():
                (target / entry.name / compiled.name).symlink_to(compiled)
        else:
            (target / entry.name).symlink_to(entry)


def copy_to(target, source, code, installed):
    """Put a file of its own there; what stands beside it stays a link to what is installed."""
    for directory in reversed(target.parents):
        if directory.is_symlink() and directory.is_relative_to(code):
            directory.unlink()
            directory.mkdir()
            link_all(installed / directory.relative_to(code), directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy(source, target)


def run_with(root, arguments, home):
    """Run a Python with the patched Airflow, or with the installed one when there is no root."""
    path = [str(root / "airflow-core/src")] if root else []
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join([*path, str(HERE)]),
        # The links lead to what other tests share.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_patches_apply_and_what_they_change_compiles(patched):
    names = sorted(set().union(*map(files_of, PATCHES)))

    for name in names:
        if name.endswith(".py"):
            compile((patched / name).read_text(), name, "exec")

    assert len(PATCHES) == 2
    assert any("/tests/" in name for name in names)


@pytest.mark.slow
def test_the_tests_of_the_patches_pass(patched, tmp_path):
    (tmp_path / "pytest.ini").touch()
    tests = patched / "airflow-core/tests/unit"
    options = ["-c", tmp_path / "pytest.ini", "-p", "no:cacheprovider", "-p", "stand_in", "-q"]

    printed = run_with(patched, ["-m", "pytest", *options, tests], tmp_path)

    assert " passed" in printed
    assert "skipped" not in printed


@pytest.mark.slow
def test_the_benchmark_shows_that_the_dag_is_sent_once_instead_of_with_each_trigger(patched, tmp_path):
    case = [UPSTREAM / "benchmark.py", "--case", "templated", "16"]
    measured = []
    for root in (None, patched):
        home = tmp_path / f"home-{len(measured)}"
        home.mkdir()
        measured.append(json.loads(run_with(root, case, home).splitlines()[-1]))

    before, after = measured
    # A message takes less room than JSON.
    assert before["bytes"] - after["bytes"] > 10 * before["dag_bytes"]


@pytest.mark.slow
def test_our_own_light_triggerer_leaves_a_patched_one_alone(patched, tmp_path):
    code = (
        "from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor\n"
        "from dbt_watch.airflow.light_triggerer import find_obstacle\n"
        "print(find_obstacle(TriggerRunnerSupervisor))"
    )

    assert "has different parameters in this Airflow" in run_with(patched, ["-c", code], tmp_path)
