"""
What a selection says, whichever way it was written.

`parser` makes these values from text, `definitions` from YAML selectors; `evaluator` finds their nodes.
"""

from __future__ import annotations

import enum

import msgspec

#: as a number of generations: all of them
UNLIMITED = -1


class IndirectSelection(enum.Enum):
    """
    Which tests come along with the nodes that they test.

    Source: https://docs.getdbt.com/reference/node-selection/test-selection-examples
    """

    #: a test of any selected node
    EAGER = "eager"
    #: a test all of whose nodes are selected
    CAUTIOUS = "cautious"
    #: a test all of whose nodes are selected, or ancestors of selected ones
    BUILDABLE = "buildable"
    #: no test that is not named itself
    EMPTY = "empty"


class Operator(enum.Enum):
    """How the parts of a group are put together."""

    UNION = "union"
    INTERSECTION = "intersection"
    #: the first part without the second
    DIFFERENCE = "difference"


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """
    One method with its value, and how far to go from the nodes that it finds.

    :param text: as the user wrote it, for messages
    :param method: such as "tag"
    :param arguments: what follows the method's name, such as ("meta", "owner") of `config.meta.owner:`
    :param value: what to look for; text, but whatever YAML holds in a YAML selector
    :param parents: how many generations of ancestors to add; None for none, UNLIMITED for all
    :param children: how many generations of descendants to add; likewise
    :param childrens_parents: whether to add all descendants and all their ancestors (`@`)
    """

    text: str
    method: str
    value: str | bool | int | float
    arguments: tuple[str, ...] = ()
    parents: int | None = None
    children: int | None = None
    childrens_parents: bool = False
    indirect: IndirectSelection = IndirectSelection.EAGER


class Group(msgspec.Struct, frozen=True):
    """
    Several specifications put together.

    :param indirect: how tests that only some parts brought along are looked at again, once all parts are known
    :param written: what the user wrote, where it should match something
    """

    operator: Operator
    parts: tuple[Specification, ...]
    indirect: IndirectSelection = IndirectSelection.EAGER
    written: Written | None = None


class Written(msgspec.Struct, frozen=True):
    """
    A part of a selection as the user wrote it.

    :param argument: where: "select" or "exclude"
    :param text: one word of it, such as "tag:nightly,+orders"
    """

    argument: str
    text: str


Specification = Criterion | Group
