"""The page of what is supported says what is declared, and names sessions and tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/support.md").read_text()
NOXFILE = (ROOT / "noxfile.py").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()

VERSIONS_OF_DBT = re.findall(
    r'^    "(\d+\.\d+)": \(', (ROOT / "tests/record/record.py").read_text(), re.MULTILINE
)
RECORDED = sorted({path.name.partition("__")[0] for path in (ROOT / "tests/recordings").glob("*.jsonl")})
BOUNDS = re.findall(r'^  "(apache-airflow[-\w]*)>=([\d.]+)', PYPROJECT, re.MULTILINE)
ROWS = {
    "apache-airflow": "Airflow",
    "apache-airflow-providers-cncf-kubernetes": "its Kubernetes provider",
    "apache-airflow-providers-google": "Airflow's Google provider, for [GKE](gke.md)",
    "apache-airflow-providers-amazon": "Airflow's Amazon provider, for [EKS](eks.md)",
    "apache-airflow-providers-openlineage": "Airflow's OpenLineage provider",
}


def row(name):
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
    return found


@pytest.mark.parametrize(("package", "bound"), BOUNDS, ids=[package for package, _ in BOUNDS])
def test_each_lower_bound_is_the_one_that_is_declared(package, bound):
    assert f"| {bound} and later" in row(ROWS[package])


def test_the_oldest_versions_are_those_that_nox_installs():
    pinned = re.findall(r'"(apache-airflow[-\w]*)==([\d.*]+)"', NOXFILE)
    assert pinned
    for package, version in pinned:
        assert version in row(ROWS[package])


def test_the_versions_of_python_are_those_that_are_declared():
    (declared,) = re.findall(r'requires-python = "(.+)"', PYPROJECT)
    assert declared in row("Python, for Airflow's side")


def test_the_versions_of_dbt_are_those_that_are_recorded():
    assert VERSIONS_OF_DBT
    for version in [*VERSIONS_OF_DBT, *RECORDED]:
        assert re.search(rf"(?<![\d.]){re.escape(version)}(?![\d])", PAGE), version


def test_the_versions_whose_selection_is_compared_are_those_of_the_session():
    (versions,) = re.findall(r"for version in \((.+)\)", NOXFILE)
    for version in re.findall(r'"([\d.]+)"', versions):
        assert version in row("node selection, compared with dbt's own")


def test_the_dbt_of_the_tests_is_the_one_that_is_declared():
    assert re.findall(r'"(dbt-core.+)"', PYPROJECT)[0] in row("dbt-core, in the image")


def test_the_readme_has_the_same_bounds():
    bounds = dict(BOUNDS)
    requirements = (ROOT / "README.md").read_text().partition("## Requirements")[2].partition("##")[0]
    assert f"Airflow {bounds['apache-airflow']} or later" in requirements
    assert bounds["apache-airflow-providers-cncf-kubernetes"] in requirements


@pytest.mark.parametrize("session", sorted(set(re.findall(r'nox -s "?(\w+)', PAGE))))
def test_every_session_that_shows_something_exists(session):
    assert re.search(rf"^def {session}\(session", NOXFILE, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w./]+)`", PAGE))))
def test_every_test_that_shows_something_exists(path):
    assert (ROOT / path).exists()
