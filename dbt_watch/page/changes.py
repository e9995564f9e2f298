"""What a look at a run has found to be new: `page.run_source` tells it, `page.readers` tells the viewers."""

from __future__ import annotations

import msgspec


class Changes(msgspec.Struct):
    """
    What a look has found.

    :param nodes: the unique_ids of the nodes of which there is news
    :param tasks: the ids of the tasks whose states have changed
    :param is_reset: whether what was known before is of no use, as when another attempt has begun
    :param is_any: whether anything else has changed
    """

    nodes: set[str] = msgspec.field(default_factory=set)
    tasks: set[str] = msgspec.field(default_factory=set)
    is_reset: bool = False
    is_any: bool = False

    def __bool__(self) -> bool:
        return bool(self.nodes or self.tasks or self.is_reset or self.is_any)
