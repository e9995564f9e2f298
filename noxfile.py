"""
How people run the project: `nox -s demo`, `nox -s tests`, and what CI runs.

Each session makes its own environment; nothing but Python and pip is needed beforehand.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests", "lint", "typing"]

LAYERS = ("dbt_watch", "tests", "examples", "noxfile.py")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example project on a local Kubernetes API and a real Airflow. Options follow `--`, such as --fail."""
    session.install("-e", ".[demo]")
    session.run("dbt-watch", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, end to end ones included."""
    session.install("-e", ".[tests]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and that imports go downwards only."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("-e", ".[typing]")
    session.run("mypy")
