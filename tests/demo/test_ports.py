"""The port of an Airflow, from when it is chosen to when its api-server listens there, many seconds later."""

import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dbt_watch.local.airflow.deployment import hold_port


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a port cannot be held")
def test_a_port_that_is_held_is_for_the_server_that_knows_of_it():
    with hold_port() as holder:
        address = holder.getsockname()
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(address)
        for _ in range(2):  # it may be started again
            with HTTPServer(address, BaseHTTPRequestHandler) as server:
                socket.create_connection(server.server_address).close()
