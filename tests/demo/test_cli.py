"""The command line: what it offers, and what it says when it cannot."""

import argparse
import functools
import importlib
import re
import shlex
import subprocess
import sys
from importlib.metadata import distributions, packages_distributions, requires, version
from pathlib import Path

import pytest

import dbt_watch
from dbt_watch.cli import COMMANDS, main
from dbt_watch.core.extras import EXTRA_OF

INSTALLED = {found.metadata["Name"].lower().replace("_", "-") for found in distributions()}


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


@pytest.mark.parametrize(
    ("command", "library", "installation"),
    [
        ("demo", "trustme", "pip install 'dbt-watch[demo]'"),
        ("localkube", "aiohttp", "pip install 'dbt-watch[demo]'"),
        ("demo", "rich", "pip install dbt-watch"),
        ("report", "rich", "pip install dbt-watch"),
        ("plan", "airflow", "pip install dbt-watch"),
        ("server", "fastapi", "pip install 'dbt-watch[server]'"),
    ],
)
def test_a_library_that_is_missing_is_told_with_the_extra_that_brings_it(
    monkeypatch, capsys, command, library, installation
):
    def fail(module):
        assert module == COMMANDS[command][0]
        raise ModuleNotFoundError(name=f"{library}.inside")

    monkeypatch.setattr(importlib, "import_module", fail)
    assert main([command]) == 2
    assert capsys.readouterr().err == (
        f"dbt-watch: {library}.inside is not installed; it comes with `{installation}`\n"
    )


def test_a_command_of_which_nothing_but_a_module_of_ours_is_missing_is_an_error_of_ours(monkeypatch):
    def fail(module):
        raise ModuleNotFoundError(name="dbt_watch.nowhere")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        main(["report"])


def name_of(requirement):
    """Return the name of a package, as it is compared."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0].lower())


@functools.cache
def distributions():
    return packages_distributions()


def packages_of(library):
    return {name_of(name) for name in distributions().get(library, [library])}


def packages_in(extra):
    return {
        name_of(each) for each in requires("dbt-watch") if f'extra == "{extra}"' in each.replace("'", '"')
    }


@pytest.mark.parametrize(("library", "extra"), EXTRA_OF.items())
def test_an_extra_brings_the_libraries_that_are_told_to_come_with_it(library, extra):
    """Directly, or with something that it brings."""
    direct = packages_in(extra)
    brought = {name_of(each) for name in direct & INSTALLED for each in requires(name) or ()}
    assert packages_of(library) & (direct | brought)


@pytest.mark.parametrize("extra", ["demo", "plan", "server"])
def test_what_an_extra_brings_and_the_code_imports_is_in_the_table(extra):
    imported = set()
    for path in Path(dbt_watch.__file__).parent.rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    needed = {library for library in imported if packages_of(library) & packages_in(extra)}
    assert needed
    assert needed <= EXTRA_OF.keys()


@pytest.mark.parametrize("command", ["init", "ls", "replay"])
def test_a_command_of_the_core_does_not_import_airflow(command):
    module, _ = COMMANDS[command]
    importlib.import_module(module)
    code = f"import sys, {module}, dbt_watch.cli; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("command", "run_timeout"), [("demo", 300.0), ("run", 3600.0)])
def test_the_demo_and_a_run_take_the_same_options_and_differ_in_how_long_a_run_may_take(command, run_timeout):
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[command][0]).add_arguments(parser)
    file = ["shop_dag.py"] if command == "run" else []
    default = parser.parse_args(file)
    assert (default.keep, default.format, default.timeout) == (False, "table", (300.0, run_timeout))
    assert parser.parse_args([*file, "--timeout", "7.5"]).timeout == (7.5, 7.5)
    assert f"(default: 300 and {run_timeout:.0f})" in " ".join(parser.format_help().split())


@pytest.mark.parametrize("command", ["demo", "run"])
def test_a_timeout_that_is_no_number_is_refused_with_what_was_written(command, capsys):
    with pytest.raises(SystemExit):
        main([command, *(["shop_dag.py"] if command == "run" else []), "--timeout", "5m"])
    assert "argument --timeout: invalid seconds value: '5m'" in capsys.readouterr().err
