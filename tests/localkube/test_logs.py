"""A pod's log, byte for byte and line by line, as the official client asks for it."""

from __future__ import annotations

import json
import re

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from .conftest import container, create, eventually, finished, log, manifest, running

STAMPED = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z) (.*)$", re.DOTALL)


def python(script: str, **more):
    return {"name": "base", "image": "registry.example/python:1", "args": ["-c", script], **more}


def refused(api, name, **query):
    with pytest.raises(ApiException) as raised:
        log(api, name, **query)
    return raised.value.status, json.loads(raised.value.body)["message"]


def test_bytes_pass_unharmed(api):
    script = (
        "import sys; w = sys.stdout.buffer.write; w(bytes(range(256)) + b'\\n');"
        " w(b'x' * (1 << 20) + b'\\n'); w(b'\\n\\n'); w(b'no newline')"
    )
    create(api, manifest("bytes", python(script)))
    finished(api, "bytes")
    expected = bytes(range(256)) + b"\n" + b"x" * (1 << 20) + b"\n" + b"\n\n" + b"no newline"
    assert log(api, "bytes") == expected
    assert log(api, "bytes", follow=True) == expected


def test_both_streams_are_in_the_order_of_writing(api):
    create(api, manifest("both", "echo 1; echo 2 >&2; echo 3"))
    finished(api, "both")
    assert log(api, "both") == b"1\n2\n3\n"


def test_each_line_gets_one_timestamp_however_long_it_is(api):
    create(api, manifest("stamps", python("print('a'); print('b' * 100_000); print('c', end='')")))
    finished(api, "stamps")
    lines = log(api, "stamps", timestamps=True).split(b"\n")
    matches = [STAMPED.match(line) for line in lines]
    assert [match.group(2) for match in matches] == [b"a", b"b" * 100_000, b"c"]
    stamps = [match.group(1) for match in matches]
    assert stamps == sorted(stamps)


def test_a_follower_gets_each_line_when_it_is_written(api):
    """The pod waits for the test's answer to each line, so a line that is held back ends the test."""
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    script = "for i in 1 2 3; do echo $i; while [ ! -e /v/$i ]; do sleep 0.01; done; done"
    create(
        api,
        manifest(
            "followed",
            container(script, **shared),
            container("sleep 600", "helper", **shared),
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    )
    running(api, "followed")
    response = api.read_namespaced_pod_log(
        "followed", "default", container="base", follow=True, _preload_content=False
    )
    chunks = response.stream(amt=None)
    for number in (1, 2, 3):
        assert next(chunks) == f"{number}\n".encode()
        stream(
            api.connect_get_namespaced_pod_exec,
            "followed",
            "default",
            container="helper",
            command=["touch", f"/v/{number}"],
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
        )
    assert list(chunks) == []


def test_parts_of_a_log_can_be_asked_for(api):
    create(api, manifest("parts", "seq 1 5; sleep 1.2; seq 6 7"))
    finished(api, "parts")
    assert log(api, "parts", tail_lines=2) == b"6\n7\n"
    assert log(api, "parts", tail_lines=0) == b""
    assert log(api, "parts", tail_lines=100) == b"1\n2\n3\n4\n5\n6\n7\n"
    assert log(api, "parts", limit_bytes=3) == b"1\n2"
    assert log(api, "parts", since_seconds=3600).startswith(b"1\n")
    stamps = [STAMPED.match(line).group(1) for line in log(api, "parts", timestamps=True).split(b"\n")[:-1]]
    assert sinced(api, "parts", stamps[5].decode()) == b"6\n7\n"


def sinced(api, name, moment):
    """Ask with sinceTime, which the generated client does not offer."""
    response = api.api_client.call_api(
        f"/api/v1/namespaces/default/pods/{name}/log",
        "GET",
        query_params=[("sinceTime", moment)],
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    return response.data


def test_the_container_must_be_named_when_there_are_several(api):
    create(api, manifest("several", container("echo a", "a"), container("echo b", "b")))
    finished(api, "several")
    status, message = refused(api, "several")
    assert status == 400
    assert message == "a container name must be specified for pod several, choose one of: [a b]"
    assert log(api, "several", container="b") == b"b\n"
    assert refused(api, "several", container="c") == (400, "container c is not valid for pod several")


def test_a_container_that_has_not_started_has_no_log_yet(api):
    create(api, manifest("waits", {"name": "base", "image": "registry.example/none:1"}))
    eventually(lambda: api.read_namespaced_pod("waits", "default").status.container_statuses)
    status, message = refused(api, "waits")
    assert status == 400
    assert 'container "base" in pod "waits" is waiting to start' in message


def test_there_is_no_previous_log_without_a_restart(api):
    create(api, manifest("once", "true"))
    finished(api, "once")
    status, message = refused(api, "once", previous=True)
    assert (status, message) == (400, 'previous terminated container "base" in pod "once" not found')


def test_a_negative_tail_is_a_422(api):
    create(api, manifest("tail", "true"))
    finished(api, "tail")
    assert refused(api, "tail", tail_lines=-1)[0] == 422


def test_following_ends_with_the_pod(api):
    create(api, manifest("deleted", "echo here; sleep 600"))
    running(api, "deleted")
    response = api.read_namespaced_pod_log("deleted", "default", follow=True, _preload_content=False)
    chunks = response.stream(amt=None)
    assert next(chunks) == b"here\n"
    api.delete_namespaced_pod("deleted", "default", grace_period_seconds=0)
    assert list(chunks) == []
