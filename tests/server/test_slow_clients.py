"""Clients that are slow, or go away, at the sockets of an API that is served."""

import socket
import threading
import time

import httpx
import pytest
import uvicorn
from serving import command, free_port, wait_for

from dbt_watch.server import middleware


@pytest.fixture
def served(desk):
    """A server whose API listens, in a thread of these tests."""
    server = uvicorn.Server(
        uvicorn.Config(
            desk.app, host="127.0.0.1", port=free_port(), log_level="warning", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    desk.port = server.config.port
    desk.connections = lambda: len(server.server_state.connections)
    yield desk
    server.should_exit = True
    thread.join(240)


def send(desk, *lines):
    connection = socket.create_connection(("127.0.0.1", desk.port), timeout=240)
    head = [
        *lines,
        "Host: localhost",
        f"Authorization: Bearer {desk.token}",
        "Content-Type: application/json",
    ]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


@pytest.mark.parametrize(
    ("length", "piece"), [("Content-Length: 1000", b" "), ("Transfer-Encoding: chunked", b"1\r\n \r\n")]
)
def test_a_body_that_never_ends_is_given_up(served, monkeypatch, length, piece):
    monkeypatch.setattr(middleware, "_BODY_TIMEOUT", 1.0)
    with send(served, "POST /invocations HTTP/1.1", length) as connection:
        began = time.monotonic()
        connection.settimeout(0.1)
        answer = b""
        while not answer:
            connection.sendall(piece)
            try:
                answer = connection.recv(65_536)
            except TimeoutError:
                assert time.monotonic() - began < 240
        assert b"408" in answer.splitlines()[0]
        # The connection is of no use any more.
        wait_for(lambda: served.connections() == 0)
    assert served.client.get("/invocations").json()["invocations"] == []


def test_a_client_that_goes_away_in_the_middle_of_a_body_costs_nothing(served):
    for _ in range(20):
        send(served, "POST /invocations HTTP/1.1", "Content-Length: 1000").close()
    wait_for(lambda: served.connections() == 0)
    assert httpx.get(f"http://127.0.0.1:{served.port}/healthz").status_code == 200


def test_a_client_that_goes_away_while_it_follows_a_log_is_followed_no_more(served):
    served.post(command(), "one")
    services = served.app.state.services
    connections = [send(served, "GET /invocations/one/log?follow=true HTTP/1.1") for _ in range(10)]
    wait_for(lambda: len(services.followers) == 10)
    for connection in connections:
        connection.close()
    wait_for(lambda: not services.followers)
