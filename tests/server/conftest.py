"""A server without processes for most tests: its API in this one, and a worker that runs when it is told to."""

import importlib.util

import pytest

if importlib.util.find_spec("huey") is None:
    # What a server needs is in an environment of its own: `nox -s server`.
    collect_ignore_glob = ["test_*.py"]
else:
    from server_desk import ServerDesk
    from serving import write_settings


@pytest.fixture
def desk(tmp_path):
    """A server of one project."""
    return ServerDesk(write_settings(tmp_path))


@pytest.fixture
def desk_with(tmp_path):
    """Return a function that makes a server with other settings."""

    def make(**settings):
        return ServerDesk(write_settings(tmp_path, **settings))

    return make
