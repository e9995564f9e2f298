"""
`dbt-watch migrate`: rewrites the projects of a DAG file of astronomer-cosmos. Called by `dbt_watch.cli`.

Exit status: 0; 1 when something is left that could not be rewritten; 2 when the file cannot be read.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import libcst as cst

from dbt_watch.migration.rewriting import rewritten

if TYPE_CHECKING:
    import argparse

DESCRIPTION: Final = """\
Rewrite the projects in a DAG file that uses astronomer-cosmos: each DbtDag and
DbtTaskGroup that runs in Kubernetes becomes a function under @dbt_k8s_project.

The result is shown as a diff; --write changes the file. What cannot be
rewritten stays as it is, and is reported with its line on standard error.

Exit status: 0; 1 if something was not rewritten; 2 if the file cannot be read.
"""
EXAMPLE: Final = "dbt-watch migrate dags/shop.py --write"

LEFT: Final = 1
CANNOT_READ: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", metavar="FILE", help="the DAG file")
    parser.add_argument("--write", action="store_true", help="change the file")


def run(args: argparse.Namespace) -> int:
    """
    Show, or write, the rewritten file.

    :param args: what `add_arguments` has asked for
    :returns: the exit status
    """
    path = Path(args.file)
    try:
        before = path.read_text(encoding="utf-8")
        after, problems = rewritten(before)
    except (OSError, UnicodeDecodeError, cst.ParserSyntaxError) as error:
        sys.stderr.write(f"dbt-watch migrate: {path}: {error}\n")
        return CANNOT_READ
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    sys.stdout.writelines(difflib.unified_diff(*lines, str(path), f"{path} (rewritten)"))
    for problem in problems:
        sys.stderr.write(f"{path}:{problem.line}: {problem.text}\n")
    if args.write and after != before:
        path.write_text(after, encoding="utf-8")
    return LEFT if problems else 0
