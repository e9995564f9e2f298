"""Views of a run while it goes on: a table redrawn on a terminal, else a line per change. Used by the commands of `demo` and `run`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from dbt_watch.local.following.report import coloured

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

    from typing_extensions import Self

    from dbt_watch.local.following.observation import Observation, Task


class View(Protocol):
    """Shows the progress of a run; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, text: str) -> None:
        """Show what is being done now."""

    def show(self, observation: Observation) -> None:
        """Show the run as it is now."""


def view_for(stream: TextIO) -> View:
    """Return the view that fits a stream."""
    return TerminalView(stream) if stream.isatty() else PlainView(stream)


class PlainView:
    """One line per change, with the seconds since the start."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def step(self, text: str) -> None:
        """Write the step."""
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", file=self._stream, flush=True)

    def show(self, observation: Observation) -> None:
        """Write a line for each task that changed."""
        for task in observation.changed:
            if task.instance.state is not None:
                self.step(f"{task.instance.state:<16} {task.instance.task_id}{_told_by_dbt(task)}")


class TerminalView:
    """A table of all tasks, redrawn in place, below the step that is being done."""

    def __init__(self, stream: TextIO) -> None:
        self._start = time.monotonic()
        self._spinner = Spinner("dots")
        self._table: Table | None = None
        self._live = Live(
            console=Console(file=stream), get_renderable=self._render, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def step(self, text: str) -> None:
        """Show the step beside the spinner."""
        self._spinner.update(text=f"{text} ({time.monotonic() - self._start:.0f} s)")

    def show(self, observation: Observation) -> None:
        """Redraw the table."""
        done = sum(task.is_final for task in observation.tasks)
        self.step(f"{done} of {len(observation.tasks)} tasks done, run {observation.run_state}")
        table = Table("task", "state", "dbt", "seconds")
        table.columns[-1].justify = "right"
        for task in observation.tasks:
            statuses = ", ".join(sorted({node.status for node in task.nodes}))
            table.add_row(
                task.instance.task_id, coloured(task.instance.state), coloured(statuses), _dbt_seconds(task)
            )
        self._table = table

    def _render(self) -> Group:
        return Group(*([self._table] if self._table else []), self._spinner)


def _told_by_dbt(task: Task) -> str:
    if not task.nodes:
        return ""
    statuses = ", ".join(sorted({node.status for node in task.nodes}))
    seconds = _dbt_seconds(task)
    return f"  (dbt: {statuses}{f', {seconds} s' if seconds else ''})"


def _dbt_seconds(task: Task) -> str:
    seconds = [node.seconds for node in task.nodes if node.seconds is not None]
    return f"{sum(seconds):.2f}" if seconds else ""
