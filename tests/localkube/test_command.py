"""`dbt-watch localkube`, as a program of its own."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kubernetes import client, config

from dbt_watch.local.localkube import command

PROGRAM = """
import argparse, sys
from dbt_watch.local.localkube import command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_kubeconfig_and_leaves_nothing_behind(tmp_path, number):
    wanted = tmp_path / "kubeconfig"
    (tmp_path / "shop").mkdir()
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROGRAM,
            f"--image=shop:1={sys.prefix}",
            f"--mount=/usr/app/shop={tmp_path}/shop",
            f"--kubeconfig={wanted}",
            "--namespace=dbt",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert Path(server.stdout.readline().decode().strip()) == wanted
        with config.new_client_from_config(str(wanted)) as connection:
            names = [item.metadata.name for item in client.CoreV1Api(connection).list_namespace().items]
        assert "dbt" in names
        server.send_signal(number)
        assert server.wait(240) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert not wanted.exists()


@pytest.mark.parametrize(
    "option", ["--image=shop", "--image=shop=/no/such/place", "--mount=/a=/no/such/place"]
)
def test_a_wrong_argument_is_one_line_and_status_2(capsys, option):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args([option, f"--image=ok={sys.prefix}"])
    assert command.run(args) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "expected" in message
