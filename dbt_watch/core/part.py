"""
A part of a project: what one pod builds where the project is split.

`rendering.split` makes the parts while a DAG is parsed, `producers` runs them.
"""

from __future__ import annotations

import msgspec


class Upstream(msgspec.Struct, frozen=True):
    """
    A task that nodes of a part wait for, and that is not the part's own.

    :param task_id: its id
    :param node: the unique_id of the node whose task it is, or whose tests' it is; None for a task that is none of the project's
    :param behind: the nodes of the part that depend on it directly
    """

    task_id: str
    node: str | None
    behind: tuple[str, ...]


class Part(msgspec.Struct, frozen=True):
    """
    What one pod builds.

    :param nodes: the unique_ids that dbt is asked for
    :param stands_for: of an isolated node, the unique_ids whose task the one that runs dbt is; nothing for a producer
    :param upstreams: the tasks that it waits for, and of which it builds less when they have not ended well
    """

    nodes: frozenset[str]
    stands_for: tuple[str, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
