"""The command line: what it offers, and what it says when it cannot."""

import argparse
import importlib
import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest

from dbt_watch.cli import COMMANDS, main


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"dbt-watch {version('dbt-watch')}"


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["demo", "--no-such-option"]])
def test_wrong_arguments_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: dbt-watch" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_module_that_can_be_asked_for_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: dbt-watch {command}" in told
    # Of one who uses the command; its module's docstring is for who reads the code.
    assert "dbt_watch." not in told


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_in_a_commands_help_can_be_parsed(command):
    module = importlib.import_module(COMMANDS[command][0])
    program, name, *arguments = shlex.split(module.EXAMPLE)
    assert (program, name) == ("dbt-watch", command)
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    parser.parse_args(arguments)


def test_a_missing_extra_is_told_with_the_command_that_installs_it(monkeypatch, capsys):
    # `None` in sys.modules makes the import fail as if it were not installed.
    monkeypatch.setitem(sys.modules, "rich", None)
    for module in ("report", "progress", "command"):
        monkeypatch.delitem(sys.modules, f"dbt_watch.local.demo.{module}", raising=False)
    monkeypatch.delitem(sys.modules, "rich.console", raising=False)
    assert main(["demo"]) == 2
    assert "pip install 'dbt-watch[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ls", "replay"])
def test_a_command_of_the_core_does_not_import_airflow(command):
    module, _ = COMMANDS[command]
    importlib.import_module(module)
    code = f"import sys, {module}, dbt_watch.cli; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
