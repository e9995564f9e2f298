"""
Reads the files at the end of a pod's log once more, on the worker that goes on after a deferral.

The trigger has followed the log, but an object store is not written to in a triggerer: that would hold up its other triggers, and
megabytes do not go through Airflow's database. The pod is still there when the task goes on.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from dbt_watch.core.log.enclosed_files import EnclosedFiles
from dbt_watch.core.log.lines import LineSplitter
from dbt_watch.producers.pods.log_following import CONNECT_TIMEOUT, READ_TIMEOUT

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

log = logging.getLogger(__name__)

FILE_TAIL: Final = "file_tail"
"""The key under which a trigger tells how many lines the log has from the first that belongs to a file."""

MAX_TAIL: Final = 4_000
"""As many lines as all files may have, where that was not told."""

SLACK: Final = 20
TRIES: Final = 3
PAUSE: Final = 1.0  # in seconds


def read_files(client: Any, pod: V1Pod, container: str, tail: int) -> EnclosedFiles:
    """
    Return the files at the end of a log, as far as they can be had.

    :param client: of the Kubernetes API
    :param pod: whose log it is
    :param container: the container's name
    :param tail: how many lines to read
    """
    files = EnclosedFiles()
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE)
        try:
            _read(client, pod, container, tail + SLACK, files)
        except Exception as error:  # noqa: BLE001 - whatever cuts it, it is read again
            log.info("Reading the files in the log of %s was interrupted (%s)", pod.metadata.name, error)
            continue
        if files.found()[0]:
            break
    return files


def _read(client: Any, pod: V1Pod, container: str, tail: int, files: EnclosedFiles) -> None:
    response = client.read_namespaced_pod_log(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        container=container,
        tail_lines=tail,
        _preload_content=False,
        _request_timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
    )
    splitter = LineSplitter()
    try:
        for piece in response.stream(amt=None, decode_content=True):
            files.sift(splitter.feed(piece))
        files.sift(splitter.flush())
    finally:
        response.release_conn()
