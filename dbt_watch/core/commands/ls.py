"""
`dbt-watch ls`: the nodes that dbt would select, from a manifest alone.

The command line (`dbt_watch.cli`) calls `add_arguments` and `run`. Exit status: 0, also when nothing matches, as `dbt ls` has it, with a
warning on stderr; 2 when the manifest or the selection cannot be understood.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from dbt_watch.core.log.task_log import MAX_LINE_CHARS
from dbt_watch.core.manifest.load import load_manifest
from dbt_watch.core.selection import select_nodes
from dbt_watch.core.selection.near import complaint
from dbt_watch.core.selection.spec import IndirectSelection
from dbt_watch.core.text import printable
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    import argparse

DESCRIPTION = """\
List the dbt nodes that a selection matches, like `dbt ls`. dbt is not
needed: the project's manifest.json is enough.

It prints unique_ids. What cannot be answered from a manifest alone (state:,
result:, source_status:) is refused.

Exit status: 0, even if nothing matches; 2 if the manifest or the selection
is invalid.
"""
EXAMPLE = 'dbt-watch ls --manifest target/manifest.json --select "+orders" tag:nightly'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ls`, named as those of `dbt ls`."""
    parser.add_argument(
        "--manifest", required=True, metavar="FILE", help="path or URL of the project's manifest.json"
    )
    parser.add_argument(
        "--select",
        "-s",
        nargs="+",
        action="extend",
        metavar="SPEC",
        help="nodes to list, in dbt's selection syntax (default: all)",
    )
    parser.add_argument("--exclude", nargs="+", action="extend", metavar="SPEC", help="nodes to leave out")
    parser.add_argument("--selector", metavar="NAME", help="a selector of the project's selectors.yml")
    parser.add_argument(
        "--resource-type",
        nargs="+",
        action="extend",
        default=[],
        metavar="TYPE",
        help="only nodes of these types, such as model or test",
    )
    parser.add_argument(
        "--exclude-resource-type",
        nargs="+",
        action="extend",
        default=[],
        metavar="TYPE",
        help="no nodes of these types",
    )
    parser.add_argument(
        "--indirect-selection",
        default=IndirectSelection.EAGER.value,
        metavar="MODE",
        help=f"which tests of selected nodes are also selected: {', '.join(mode.value for mode in IndirectSelection)} (default: {IndirectSelection.EAGER.value})",
    )
    parser.add_argument(
        "--output",
        choices=("text", "json"),
        default="text",
        help="one node per line (text, the default), or a JSON list",
    )


def run(args: argparse.Namespace) -> int:
    """
    Print the unique_ids in order.

    :param args: what `add_arguments` has asked for
    :returns: the exit status
    """
    try:
        graph = load_manifest(args.manifest, argument="--manifest")
        selected = select_nodes(
            graph,
            select=args.select,
            exclude=args.exclude,
            selector=args.selector,
            resource_types=args.resource_type,
            exclude_resource_types=args.exclude_resource_type,
            indirect_selection=args.indirect_selection,
            buildable_only=False,
            on_unmatched=lambda found: _say(f"--{complaint(graph, found)}"),
        )
    except ArgumentError as error:
        _say(_as_option(error))
        return 2
    unique_ids = sorted(selected)
    if args.output == "json":
        sys.stdout.write(f"{json.dumps(unique_ids)}\n")
    else:
        sys.stdout.writelines(f"{printable(unique_id, len(unique_id))}\n" for unique_id in unique_ids)
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"dbt-watch ls: {printable(text, MAX_LINE_CHARS)}\n")


#: the options by the names of the arguments that they become
_OPTIONS = {
    "select": "--select",
    "exclude": "--exclude",
    "selector": "--selector",
    "resource_types": "--resource-type",
    "exclude_resource_types": "--exclude-resource-type",
    "indirect_selection": "--indirect-selection",
}


def _as_option(error: ArgumentError) -> str:
    """Return the message of an error with the name of the option, which is what the user has typed."""
    option = _OPTIONS.get(error.argument, error.argument)
    return " ".join(str(error).splitlines()).replace(f"{error.argument}=", f"{option}=", 1)
