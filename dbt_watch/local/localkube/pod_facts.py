"""What became of every pod that a server has ever had, for tests and tables. Kept by `cluster`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dbt_watch.local.localkube.store import PODS, Change, ChangeKind, Item, now

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PodFact:
    """
    One pod, as it is or as it was last.

    :ivar image: of its first container
    :ivar created_at: when the API took it
    :ivar finished_at: when it went to Succeeded or Failed; None before, and when it was deleted before
    :ivar deleted_at: when it was gone from the API
    :ivar exit_codes: container (init containers too) -> exit code, for those that have ended
    """

    name: str
    namespace: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    image: str
    phase: str
    reason: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None = None
    deleted_at: dt.datetime | None = None
    exit_codes: Mapping[str, int] = field(default_factory=dict)


class PodFacts:
    """Observes a store; read from any thread."""

    def __init__(self) -> None:
        self._facts: dict[str, PodFact] = {}
        self._lock = threading.Lock()

    def observe(self, change: Change) -> None:
        """Take a change of the store."""
        if change.resource is not PODS:
            return
        uid = change.new["metadata"]["uid"]
        with self._lock:
            known = self._facts.get(uid)
            fact = _fact(change.new, known.created_at if known else now())
            finished = known.finished_at if known else None
            if finished is None and fact.phase in ("Succeeded", "Failed"):
                finished = now()
            deleted = now() if change.kind is ChangeKind.DELETED else None
            self._facts[uid] = replace(fact, finished_at=finished, deleted_at=deleted)

    def all(self) -> list[PodFact]:
        """Return the facts, oldest pod first."""
        with self._lock:
            return list(self._facts.values())


def _fact(pod: Item, created_at: dt.datetime) -> PodFact:
    metadata, status = pod["metadata"], pod["status"]
    states = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return PodFact(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        image=pod["spec"]["containers"][0]["image"],
        phase=status["phase"],
        reason=status.get("reason"),
        created_at=created_at,
        exit_codes={
            state["name"]: state["state"]["terminated"]["exitCode"]
            for state in states
            if "terminated" in state["state"]
        },
    )
