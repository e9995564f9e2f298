"""How events are sent: nothing waits for the transport, and what is not sent is said once."""

import logging
import threading
import time

import pytest

from dbt_watch.core.results import NodeResult
from dbt_watch.lineage import sender as sender_module
from dbt_watch.lineage.happenings import DbtInvocation, NodeEnded
from dbt_watch.lineage.sender import EventSender

INVOCATION = DbtInvocation("i")


def happening(number, sql=None):
    return NodeEnded(INVOCATION, NodeResult(unique_id=f"model.shop.m{number}", status="success"), sql)


class Transport:
    """What events are sent with, as a test wants it."""

    def __init__(self, seconds=0.0, broken=()):
        self.sent, self.is_closed, self.threads = [], False, set()
        self.seconds, self.broken = seconds, set(broken)
        self.gate, self.is_asked = threading.Event(), threading.Event()
        self.gate.set()

    def open(self):
        return self

    def send(self, happening):
        self.is_asked.set()
        self.gate.wait(240)
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        if happening.result.unique_id in self.broken:
            raise ConnectionError("marquez.example: no route to host")
        self.sent.append(happening.result.unique_id)

    def close(self):
        self.is_closed = True


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture(autouse=True)
def all_levels(caplog):
    caplog.set_level(logging.INFO)


def test_events_are_sent_in_their_order_by_another_thread(caplog):
    transport = Transport()
    sender = EventSender(transport.open)
    for number in range(50):
        sender.put(happening(number))
    sender.close(240, wait=True)
    assert transport.sent == [f"model.shop.m{number}" for number in range(50)]
    assert transport.threads == {"dbt-watch-lineage"}
    assert transport.is_closed
    assert not caplog.records


def test_without_an_event_there_is_no_thread():
    before = set(threading.enumerate())
    sender = EventSender(Transport().open)
    sender.close(240, wait=True)
    # Others may have ended meanwhile.
    assert not set(threading.enumerate()) - before


def test_a_transport_that_takes_long_holds_up_no_build_and_what_is_dropped_is_said(caplog):
    transport = Transport()
    transport.gate.clear()
    sender = EventSender(transport.open)
    began = time.monotonic()
    for number in range(2_000):
        sender.put(happening(number))
    assert transport.is_asked.wait(240)
    sender.close(0.2, wait=True)
    assert time.monotonic() - began < 120
    (warning,) = warnings(caplog)
    assert "Of 2000 OpenLineage events of this build, 0 failed and 1999 were dropped" in warning
    transport.gate.set()


def test_a_triggerer_does_not_wait_and_sends_the_rest_all_the_same():
    transport = Transport()
    transport.gate.clear()
    sender = EventSender(transport.open)
    sender.put(happening(1))
    sender.put(happening(2))
    began = time.monotonic()
    sender.close(240, wait=False)
    assert time.monotonic() - began < 120
    transport.gate.set()
    sender._thread.join(240)
    assert transport.sent == ["model.shop.m1", "model.shop.m2"]


def test_events_that_fail_are_one_warning_and_keep_back_no_other(caplog):
    transport = Transport(broken=[f"model.shop.m{number}" for number in range(1, 6)])
    sender = EventSender(transport.open)
    for number in range(8):
        sender.put(happening(number))
    sender.close(240, wait=True)
    assert transport.sent == ["model.shop.m0", "model.shop.m6", "model.shop.m7"]
    (warning,) = warnings(caplog)
    assert "ConnectionError: marquez.example: no route to host" in warning
    assert (
        "Of 8 OpenLineage events of this build, 5 failed and 0 were dropped"
        in caplog.records[-1].getMessage()
    )


def test_a_configuration_that_is_wrong_is_one_warning(caplog):
    def refuse():
        raise ValueError("unknown transport 'carrier_pigeon'")

    sender = EventSender(refuse)
    for number in range(100):
        sender.put(happening(number))
    sender.close(240, wait=True)
    sender.put(happening(101))
    (warning,) = warnings(caplog)
    assert "no events of this build are sent: ValueError: unknown transport 'carrier_pigeon'" in warning
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("name", "limit"), [("MAX_WAITING", 10), ("MAX_WAITING_BYTES", 1_000)])
def test_what_waits_takes_bounded_room(monkeypatch, caplog, name, limit):
    monkeypatch.setattr(sender_module, name, limit)
    transport = Transport()
    transport.gate.clear()
    sender = EventSender(transport.open)
    for number in range(100):
        sender.put(happening(number, "x" * 100))
    assert len(sender._waiting) <= 10
    transport.gate.set()
    sender.close(240, wait=True)
    assert 10 <= len(transport.sent) <= 12
    (warning,) = warnings(caplog)
    assert f"{100 - len(transport.sent)} were dropped" in warning


def test_an_outlet_that_cannot_flush_is_a_warning(caplog):
    class Stuck(Transport):
        def close(self):
            raise TimeoutError("3 events are left")

    sender = EventSender(Stuck().open)
    sender.put(happening(1))
    sender.close(240, wait=True)
    assert "TimeoutError: 3 events are left" in warnings(caplog)[0]
