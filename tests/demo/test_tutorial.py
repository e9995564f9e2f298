"""
The commands of the tutorial, pasted one block after the other into one shell, print what the page promises.

Only the installation is left out: the tests have one. A `...` in a promise stands for anything, and a line of it for any lines.
"""

import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from code_blocks import ROOT, blocks_of

pytestmark = [pytest.mark.tutorial, pytest.mark.timeout(1200)]

BLOCKS = blocks_of(ROOT / "docs/tutorial.md")
COMMANDS = [block for block in BLOCKS if block.language == "sh" and "pip install" not in block.text]
RUNS = [block for block in COMMANDS if "dbt-watch run" in block.text]
#: what the reader is told to have when all is installed
QUARTER_OF_AN_HOUR = 900.0


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    """What each block of commands printed, its exit status, and how long all of them took."""
    directory = tmp_path_factory.mktemp("tutorial")
    script = "".join(
        f"{block.text}\nstatus=$?; echo; echo ===== {number} $status\n"
        for number, block in enumerate(COMMANDS)
    )
    file = directory / "pasted.sh"
    file.write_text(script)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    begun = time.monotonic()
    done = subprocess.run(
        ["bash", str(file)],
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begun
    printed, statuses = {}, {}
    parts = re.split(r"^===== (\d+) (\d+)$\n", done.stdout, flags=re.MULTILINE)
    for output, number, status in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        printed[COMMANDS[int(number)]], statuses[COMMANDS[int(number)]] = output, int(status)
    return printed, statuses, seconds


def promises():
    """Each block of output, with the commands before it."""
    found = []
    for before, after in itertools.pairwise(BLOCKS):
        if after.language == "text":
            assert before.language == "sh", f"{after} does not follow commands"
            found.append(pytest.param(before, after, id=str(after)))
    return found


def in_single_spaces(text):
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines())


def pattern_of(promise):
    lines = in_single_spaces(promise).splitlines(keepends=True)
    return "^" + "".join(
        r"(?:.*\n)*?" if line == "...\n" else re.escape(line).replace(r"\.\.\.", ".*") for line in lines
    )


@pytest.mark.parametrize(("commands", "promise"), promises())
def test_the_commands_print_what_the_page_promises(pasted, commands, promise):
    printed = in_single_spaces(pasted[0][commands])
    assert re.search(pattern_of(promise.text), printed, re.MULTILINE), (
        f"{promise} is not printed by:\n{printed}"
    )


def test_every_block_ends_well_but_the_run_of_the_broken_model(pasted):
    _, statuses, _ = pasted
    assert [statuses[block] for block in RUNS] == [0, 1, 0]
    assert all(status == 0 for block, status in statuses.items() if block not in RUNS)
    assert len(statuses) == len(COMMANDS)


def test_all_of_it_takes_less_than_the_page_says(pasted):
    assert pasted[2] < QUARTER_OF_AN_HOUR
