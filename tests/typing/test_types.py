"""What a type checker says of the public names, line by line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parent / "sample.py"


@pytest.fixture(scope="module")
def said():
    """What mypy says, strictly, by line: `(kind, text)`."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, str(SAMPLE)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"tests/typing/sample\.py:(\d+): (error|note): (.*)$", line)
        if match:
            found.setdefault(int(match[1]), []).append((match[2], match[3]))
    return found


def test_every_type_is_the_one_that_is_written_below_it(said):
    lines = SAMPLE.read_text().splitlines()
    revealed = 0
    for number, line in enumerate(lines, start=1):
        if line.strip().startswith("# the type is "):
            expected = line.split("# the type is ")[1]
            texts = [text for kind, text in said.get(number - 1, []) if kind == "note"]
            assert f'Revealed type is "{expected}"' in [without_modules(text) for text in texts], (
                number,
                texts,
            )
            revealed += 1
    assert revealed == sum("reveal_type(" in line for line in lines)


def test_what_is_wrong_is_an_error_and_nothing_else_is(said):
    lines = SAMPLE.read_text().splitlines()
    expected = {
        number: match[1]
        for number, line in enumerate(lines, start=1)
        if (match := re.search(r"# error: (\S+)", line))
    }
    found = {
        number: re.search(r"\[([a-z-]+)\]$", text)[1]
        for number, items in said.items()
        for kind, text in items
        if kind == "error"
    }
    assert found == expected


def test_pyright_finds_the_same_lines_wrong(tmp_path):
    pytest.importorskip("basedpyright")
    settings = {
        "include": [str(SAMPLE)],
        "typeCheckingMode": "standard",
        "pythonVersion": "3.10",
        "extraPaths": [str(ROOT)],
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "-p", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout)["generalDiagnostics"]
    wrong = {item["range"]["start"]["line"] + 1 for item in told if item["severity"] == "error"}
    lines = SAMPLE.read_text().splitlines()
    assert wrong == {number for number, line in enumerate(lines, start=1) if "# error: " in line}


def without_modules(text):
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text)
