"""What the commands of `demo` and `run` are told in the same words: whether to keep Airflow, what to print, and how long to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import argparse

START_TIMEOUT_S: Final = 300.0
"""How long Airflow may take to start, unless `--timeout` says otherwise."""


class Timeouts(NamedTuple):
    """How many seconds Airflow may take to start, and the run to end."""

    start: float
    run: float


def add_options(parser: argparse.ArgumentParser, *, run_timeout: float) -> None:
    """
    Declare `--keep`, `--format` ("table" or "json") and `--timeout` (`Timeouts`).

    :param run_timeout: how many seconds the run may take by default
    """
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave everything running until Ctrl-C, and print address and login of Airflow's web interface",
    )
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="table (the default), or json: one JSON object as the last line of stdout, with progress on stderr",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=Timeouts(START_TIMEOUT_S, run_timeout),
        metavar="SECONDS",
        help="how long Airflow may take to start, and then the run to end"
        f" (default: {START_TIMEOUT_S:.0f} and {run_timeout:.0f})",
    )


def seconds(text: str) -> Timeouts:
    """
    Read the value of `--timeout`, which counts for both.

    :raises ValueError: when it is no number; argparse then tells the name of this function
    """
    return Timeouts(float(text), float(text))
