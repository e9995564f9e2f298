"""The tree of errors that `dbt_watch.exceptions` draws."""

import ast
import re
from pathlib import Path

import dbt_watch
from dbt_watch import exceptions

PACKAGE = Path(dbt_watch.__file__).parent
TREES = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]


def errors():
    """Name the subclasses of DbtWatchError, wherever they are defined."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"DbtWatchError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def test_every_error_is_drawn_and_every_drawn_one_exists():
    drawn = set(re.findall(r"\b[A-Z]\w+(?:Error|Failed|Lost|Busy|Run)\b", exceptions.__doc__)) - {
        "ValueError"
    }
    assert drawn == errors()


def test_every_error_is_raised_somewhere():
    made = {
        node.func.id
        for tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert errors() <= made
