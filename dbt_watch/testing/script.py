"""What a `FakeDbt` is to play: a `Script`, which `fake_dbt` writes and `player` reads, as JSON in the directory of the image."""

from __future__ import annotations

from typing import Literal

import msgspec

How = Literal["exit", "memory", "silence"]
"""How a pod ends early: its process exits, the kernel kills it for its memory, or it says nothing any more."""


class Death(msgspec.Struct, frozen=True):
    """
    How a run of dbt ends before its time.

    :param how: see `How`
    :param when: while the node runs, or when it has ended
    :param exit_code: of the process, where it exits
    :param times: in how many runs; None for each
    """

    how: How
    when: Literal["during", "after"]
    exit_code: int = 137
    times: int | None = None


class Act(msgspec.Struct, frozen=True):
    """
    What becomes of one node.

    :param ending: None where it goes well
    :param message: dbt's text of an error or a warning
    :param times: in how many of its runs it ends so; None for each
    :param batches: of a microbatch model, the names of those that fail; None for all
    :param seconds: how long it takes
    :param rows: how many rows the database reports
    :param prints: lines that are no records, printed while it runs
    :param death: what happens to the pod meanwhile
    """

    ending: Literal["error", "warn"] | None = None
    message: str | None = None
    times: int | None = None
    batches: tuple[str, ...] | None = None
    seconds: float = 0.0
    rows: int | None = None
    prints: tuple[str, ...] = ()
    death: Death | None = None


class Crash(msgspec.Struct, frozen=True):
    """
    How dbt ends before its first node.

    :param message: dbt's text
    :param exit_code: of the process
    :param times: in how many commands; None for each
    """

    message: str
    exit_code: int = 2
    times: int | None = None


class ScriptedAnswer(msgspec.Struct, frozen=True):
    """
    What a command says that runs no nodes, and how it ends.

    :param lines: what dbt, or its macro, says
    :param error: dbt's text, where it fails
    :param seconds: how long it takes
    :param times: how many such commands fail; None for each
    """

    lines: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0
    times: int | None = None


class Script(msgspec.Struct, frozen=True):
    """
    What is played.

    :param acts: by unique_id; a node without one succeeds at once
    :param answers: by command, such as "docs generate" or "run-operation grant"
    :param crash: what every command ends with
    :param prints: lines that are no records, printed before the first node
    :param recorded: whether a log is played instead, as it was recorded
    :param exit_code: of that
    :param project_dir: the project's directory in the image; None where any is taken
    :param search_path: where Python looks for this library
    """

    acts: dict[str, Act] = {}
    answers: dict[str, ScriptedAnswer] = {}
    crash: Crash | None = None
    prints: tuple[str, ...] = ()
    recorded: bool = False
    exit_code: int = 0
    project_dir: str | None = None
    search_path: tuple[str, ...] = ()
