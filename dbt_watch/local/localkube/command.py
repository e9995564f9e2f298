"""
`dbt-watch localkube`: a localkube of its own, which serves until Ctrl-C or SIGTERM.

`dbt_watch.cli` calls `add_arguments` and `run`.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

from dbt_watch.exceptions import ArgumentError
from dbt_watch.local.localkube.cluster import LocalKube
from dbt_watch.local.localkube.images import Image, Mount, as_image
from dbt_watch.local.localkube.isolation import IsolationMode

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import FrameType

DESCRIPTION = """\
Serve a Kubernetes API on 127.0.0.1 whose pods are processes on this machine.

It prints the path of its kubeconfig and serves until Ctrl-C or SIGTERM, which
also ends its pods and removes all its files.
"""
EXAMPLE = "dbt-watch localkube --image shop:1=venvs/dbt --mount /usr/app/shop=dbt/shop"
# Exit status for a server that could not start, as `dbt-watch` uses it throughout.
COULD_NOT_RUN = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="an image that pods can use, and the virtual environment or directory of programs that stands in for it; may be repeated",
    )
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        metavar="TARGET=PATH",
        help="make a file or directory of this machine visible at the absolute path TARGET in all containers; each container changes only its own copy; may be repeated",
    )
    parser.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="TARGET=PATH",
        help="like --mount, but containers write to the file or directory itself; may be repeated",
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="the port on 127.0.0.1 (default: a free one)"
    )
    parser.add_argument(
        "--kubeconfig", metavar="PATH", help="where to write the kubeconfig (default: a temporary directory)"
    )
    parser.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        help="a namespace to create in addition to `default`; may be repeated",
    )
    parser.add_argument(
        "--isolation",
        choices=[mode.value for mode in IsolationMode],
        default=IsolationMode.AUTO.value,
        help="whether containers get their own Linux namespaces (default: auto, if this machine can)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve with the parsed options; return the exit status."""
    try:
        return serve(
            images=args.image,
            mounts=args.mount,
            shares=args.share,
            port=args.port,
            kubeconfig=args.kubeconfig,
            namespaces=args.namespace,
            isolation=args.isolation,
        )
    except ArgumentError as error:
        print(f"dbt-watch localkube: {error}", file=sys.stderr)  # noqa: T201 - a command's own output
        return COULD_NOT_RUN


def serve(
    *,
    images: Sequence[str] = (),
    mounts: Sequence[str] = (),
    shares: Sequence[str] = (),
    port: int = 0,
    kubeconfig: str | None = None,
    namespaces: Sequence[str] = (),
    isolation: str = IsolationMode.AUTO.value,
) -> int:
    """
    Serve until SIGINT or SIGTERM, after printing the path of the kubeconfig as one line.

    :param images: `NAME=PATH` each
    :param mounts: `TARGET=PATH` each, in every image
    :param shares: the same, written through
    :return: 0, the exit status of a clean end
    :raises ArgumentError: an argument is wrong, or the server cannot start with it
    """
    shown: dict[str, str | Mount] = {}
    for argument, texts in (("mount", mounts), ("share", shares)):
        for text in texts:
            target, path = _pair(argument, text)
            shown[target] = Mount(path, shared=argument == "share")
    table = {}
    for text in images:
        name, path = _pair("image", text)
        plain = as_image(name, path)
        table[name] = Image(venv=plain.venv, directory=plain.directory, mounts=shown)
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with LocalKube(
            table, isolation=isolation, port=port, kubeconfig=kubeconfig, namespaces=namespaces
        ) as kube:
            print(kube.kubeconfig, flush=True)  # noqa: T201 - a command's own output
            if not kube.isolated:
                text = "no PID namespaces here: only programs of the images themselves run, and no exec"
                print(f"dbt-watch localkube: {text}", file=sys.stderr)  # noqa: T201 - as above
            stop.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _pair(argument: str, text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ArgumentError(argument, text, "NAME=PATH")
    return name, path
