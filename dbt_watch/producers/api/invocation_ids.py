"""
The ids under which invocations are posted: readable, the same whenever they are made again, and never the same for two attempts.

An id tells three things by marks at its end: to which project and run it belongs, to which task of that, and to which attempt. So a
later attempt finds what earlier ones have left, and the tasks of one project and run each other's, among all that a server lists.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

MAX_CHARS: Final = 200
"""How long an id is at most; the server of this library takes 250."""

# What the server of this library takes, and what goes into the path of a URL as it is.
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_.:+=@~-]")
_NO_BEGINNING: Final = re.compile(r"^[^A-Za-z0-9]+")
_MARKS: Final = re.compile(
    r"~(?P<project>[0-9a-f]{16})~(?P<task>[0-9a-f]{8})~(?P<generation>\d+)\.(?P<attempt>\d+)~(?P<life>[0-9a-f]{8})$"
)


class AttemptKey(msgspec.Struct, frozen=True, kw_only=True):
    """
    One attempt of one task.

    :param deployment: what tells one Airflow from another that uses the same server
    :param dag_id: its DAG's
    :param run_id: its run's
    :param map_index: -1 for an unmapped task
    :param producer: the id of the task that runs the whole project
    :param task_id: its own, which is another one for a sensor that builds its nodes alone
    :param life: when the run began, as text: one that is deleted and made again has the same id
    :param generation: between which clears it is made, see `generation_of`
    :param attempt: its number
    """

    deployment: str
    dag_id: str
    run_id: str
    map_index: int
    producer: str
    task_id: str
    life: str
    generation: str
    attempt: int

    @property
    def invocation_id(self) -> str:
        """The id of its invocation."""
        marks = f"~{self.project_mark}~{task_mark(self.task_id)}~{self.generation}.{self.attempt}~{_hash(self.life, 8)}"
        index = "" if self.map_index < 0 else f".{self.map_index}"
        words = _FOREIGN.sub("-", f"{self.dag_id}.{self.task_id}{index}@{self.run_id}")
        words = _NO_BEGINNING.sub("", words) or "dbt"
        return words[: MAX_CHARS - len(marks)] + marks

    @property
    def project_mark(self) -> str:
        """What all invocations of the project in its run have, and no others."""
        run = (self.deployment, self.dag_id, self.run_id, str(self.map_index), self.producer)
        return _hash("\0".join(run), 16)

    def owns(self, marks: Marks) -> bool:
        """Return whether marks are those of an attempt of the same task."""
        return marks.task == task_mark(self.task_id)

    def may_take_over(self, marks: Marks) -> bool:
        """Return whether marks are those of an earlier attempt that this one may go on with."""
        return (
            self.owns(marks)
            and (marks.generation, marks.life) == (self.generation, _hash(self.life, 8))
            and marks.attempt < self.attempt
        )


class Marks(msgspec.Struct, frozen=True):
    """
    What the end of an id tells.

    :param project: of which project and run
    :param task: of which task
    :param generation: between which clears
    :param attempt: which attempt
    :param life: of which of the runs that may have had the same id
    """

    project: str
    task: str
    generation: str
    attempt: int
    life: str


def marks_of(invocation_id: str) -> Marks | None:
    """Return what an id tells; None when it is none of ours."""
    found = _MARKS.search(invocation_id)
    if found is None:
        return None
    return Marks(found["project"], found["task"], found["generation"], int(found["attempt"]), found["life"])


def task_mark(task_id: str) -> str:
    """Return what stands for a task in an id."""
    return _hash(task_id, 8)


def _hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
