"""`dbt-watch report`, called as the command line calls it."""

import argparse

import pytest

from dbt_watch.reporting import command


@pytest.fixture
def run(capsys):
    """Return a function that runs the command, and returns its exit status, its output and its complaints."""

    def run(*arguments):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        status = command.run(parser.parse_args([str(argument) for argument in arguments]))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
