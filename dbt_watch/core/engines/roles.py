"""The roles that an event can play for the ledger. Used by the engines' tables and by `core.ledger`."""

from __future__ import annotations

import enum


class Role(enum.Enum):
    """What an event tells."""

    COMMAND = "a dbt command begins"
    START = "a node begins"
    RESULT = "a node is over, in a state"
    NO_OP = "a node is over, with nothing to do"
    SKIPPED = "a node is skipped"
    FINISHED = "a node or one of its batches is over; more details of the result"
    MARKED = "a failed node keeps its children from running; details of the result"
    BATCH_START = "a batch of a microbatch model begins"
    BATCH_RESULT = "a batch of a microbatch model is over"
    ERROR_TEXT = "the error of a node that is about to fail"
    MESSAGE = "a message; when it is an error of a node, that node is about to fail"
    EPHEMERAL_FAILED = "a node is skipped because an ephemeral one failed"
    END_OF_RUN = "one of the texts about failed nodes after the last node"
    CANCEL = "a query is cancelled"
    CRASH = "the command breaks off"
    SUMMARY = "the command came to its end"
    NOTHING = "the command came to its end, with no node to run"
    NOTE = "a note, perhaps with an event inside that could not be encoded"
