"""
The profile of a pod, made of an Airflow connection: a Secret that is there before the pod, and that the pod owns.

`producers.pods.operator` makes a `PodProfile` for an attempt of a task with a `profile`, and `producers.pods.pod_manager` has it bring
the Secret into being around the making of the pod. Kubernetes deletes it with the pod. Its name follows from the task, so an attempt
finds what an earlier one has left without a right to read or list Secrets.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook
from kubernetes.client import models as k8s

from dbt_watch.airflow.pod_operator import plain_pod_manager
from dbt_watch.airflow.pods import asked_again
from dbt_watch.airflow.task_instances import key_of
from dbt_watch.core.command import is_literal
from dbt_watch.producers.pods.api_errors import HTTP_NOT_FOUND, status_of
from dbt_watch.producers.pods.failure_reasons import words_of
from dbt_watch.profiles.dbt_profile import PROFILES_DIR
from dbt_watch.profiles.profile_file import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context
    from kubernetes.client import CoreV1Api, V1Pod

    from dbt_watch.profiles.profile_file import ProfileFile

log = logging.getLogger(__name__)

VOLUME: Final = "dbt-watch-profile"
HTTP_CONFLICT: Final = 409
READ_ONLY: Final = 0o444


class PodProfile:
    """
    The profile of the pod of one task.

    :param operator: the producer, the copy of it with which a sensor builds its nodes, or the task of another command; its `graph`
        is None where no project is at hand
    :param context: of the task that runs
    :param namespace: that of the pod
    """

    def __init__(self, operator: Any, context: Context, namespace: str) -> None:
        self._operator = operator
        self._context = context
        self._namespace = namespace
        self._file: ProfileFile | None = None
        self._conn_id = ""
        self.name = secret_name(context["ti"])
        """The name of the Secret."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown of it, once it is read."""
        return () if self._file is None else self._file.secrets

    def read(self, build: Mapping[str, Any]) -> None:
        """
        Read the connection, unless that was done before.

        :param build: the rendered options of dbt
        :raises ArgumentError: naming the connection, and what is missing or wrong
        :raises AirflowNotFoundException: when there is no such connection
        """
        if self._file is not None:
            return
        operator, graph = self._operator, self._operator.graph
        profile = operator.profile.rendered(self._render)
        self._conn_id = profile.conn_id
        self._file = profile.file(
            BaseHook.get_connection(profile.conn_id),
            adapter_type=None if graph is None else graph.facts.adapter_type,
            project_name="" if graph is None else graph.project_name,
            target=build.get("target") or None,
            names=() if graph is None else tuple(graph.nodes),
        )

    def _render(self, text: str) -> Any:
        return text if is_literal(text) else self._operator.render_template(text, self._context)

    def attach(self, pod: V1Pod, container: str) -> None:
        """
        Have a pod that is to be made show the file, and its secrets as environment variables.

        :param container: the one in which dbt runs
        """
        assert self._file is not None  # noqa: S101 - it was read before
        items = [k8s.V1KeyToPath(key=FILE_NAME, path=FILE_NAME)]
        source = k8s.V1SecretVolumeSource(secret_name=self.name, items=items, default_mode=READ_ONLY)
        mount = k8s.V1VolumeMount(name=VOLUME, mount_path=PROFILES_DIR, read_only=True)
        pod.spec.volumes = [*(pod.spec.volumes or ()), k8s.V1Volume(name=VOLUME, secret=source)]
        base = next(item for item in pod.spec.containers if item.name == container)
        base.volume_mounts = [*(base.volume_mounts or ()), mount]
        base.env = [*(base.env or ()), *map(self._variable, self._file.variables)]

    def _variable(self, name: str) -> k8s.V1EnvVar:
        reference = k8s.V1SecretKeySelector(name=self.name, key=name)
        return k8s.V1EnvVar(name=name, value_from=k8s.V1EnvVarSource(secret_key_ref=reference))

    # The Secret's life.

    def make_with(self, pod: V1Pod, create: Callable[[V1Pod], V1Pod]) -> V1Pod:
        """
        Make a pod with its Secret, which goes with the pod from then on.

        When there is no pod in the end, there is no Secret either.

        :param pod: the pod
        :param create: makes it, and returns it as it is in the cluster
        :raises ApiException: when the API refuses one of them, or does not answer
        """
        try:
            self._create(pod)
        except BaseException as error:
            if not _is_refusal(error):
                self._delete_if_possible()
            raise
        log.info("The profile was made from connection %s and is in Secret %s", self._conn_id, self.name)
        try:
            made = create(pod)
        except BaseException as error:
            self._take_back(pod, error)
            raise
        try:
            self._give(self.name, made)
        except BaseException:
            self._undo(made)
            raise
        return made

    def adopt(self, pod: V1Pod) -> None:
        """Have the pod of an earlier attempt own its Secret, whose worker may have died before it had come to that."""
        volumes = [volume for volume in pod.spec.volumes or () if volume.name == VOLUME]
        name = volumes[0].secret.secret_name if volumes and volumes[0].secret else None
        if name is None:
            return  # it was made without a profile
        try:
            self._give(name, pod)
        except Exception as error:  # noqa: BLE001 - dbt runs, and needs nothing of it
            log.warning("Secret %s may outlive pod %s: %s", name, pod.metadata.name, words_of(error))

    def discard(self) -> None:
        """Delete what an earlier attempt may have left, since there will be no pod."""
        self._delete_if_possible()

    @property
    def _client(self) -> CoreV1Api:
        client: CoreV1Api = self._operator.client
        return client

    def _create(self, pod: V1Pod) -> None:
        assert self._file is not None  # noqa: S101 - it was read before
        data = {FILE_NAME: self._file.text, **self._file.variables}
        secret = k8s.V1Secret(
            metadata=k8s.V1ObjectMeta(name=self.name, labels=dict(pod.metadata.labels or {})),
            data={key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
            immutable=True,
        )

        def create() -> None:
            try:
                self._client.create_namespaced_secret(self._namespace, secret)
            except Exception as error:
                if status_of(error) != HTTP_CONFLICT:
                    raise
                # Of an earlier attempt, or of this request, whose answer was lost. dbt has ended in the pod of that attempt.
                self._delete()
                self._client.create_namespaced_secret(self._namespace, secret)

        asked_again(create)

    def _give(self, name: str, pod: V1Pod) -> None:
        owner = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod.metadata.name,
            "uid": pod.metadata.uid,
        }
        patch = {"metadata": {"ownerReferences": [owner]}}
        asked_again(lambda: self._client.patch_namespaced_secret(name, self._namespace, patch))

    def _take_back(self, pod: V1Pod, error: BaseException) -> None:
        """
        Delete the Secret of a pod that could not be made.

        Where an answer may have been lost, the pod may be there all the same, for the next attempt to take over; it keeps the
        Secret then.
        """
        if not _is_refusal(error):
            try:
                there = self._client.read_namespaced_pod(pod.metadata.name, self._namespace)
            except Exception as unread:  # noqa: BLE001 - the error before it is the one to be told
                if status_of(unread) != HTTP_NOT_FOUND:
                    log.warning(
                        "Secret %s may be left behind; the next attempt deletes it: %s",
                        self.name,
                        words_of(unread),
                    )
                    return
            else:
                self.adopt(there)
                return
        self._delete_if_possible()

    def _undo(self, pod: V1Pod) -> None:
        """Delete a pod that could not be given its Secret: nothing would delete that one with it."""
        log.warning(
            "Secret %s could not be assigned to pod %s, so both are deleted", self.name, pod.metadata.name
        )
        try:
            plain_pod_manager(self._operator).delete_pod(pod)
        except Exception as error:  # noqa: BLE001 - the error before it is the one to be told
            log.warning("Pod %s could not be deleted: %s", pod.metadata.name, words_of(error))
            return  # the next attempt takes it over, and its Secret with it
        self._delete_if_possible()

    def _delete_if_possible(self) -> None:
        try:
            asked_again(self._delete)
        except Exception as error:  # noqa: BLE001 - the error before it is the one to be told
            why = words_of(error)
            log.warning("Secret %s may be left behind; the next attempt deletes it: %s", self.name, why)

    def _delete(self) -> None:
        try:
            self._client.delete_namespaced_secret(self.name, self._namespace)
        except Exception as error:
            if status_of(error) != HTTP_NOT_FOUND:
                raise


def secret_name(task_instance: Any) -> str:
    """Return the name of the Secret of a task's pod, the same for all its attempts, and no other task's."""
    key = key_of(task_instance)
    words = (key.dag_id, key.run_id, key.task_id, str(key.map_index))
    return f"dbt-profile-{hashlib.sha256(chr(0).join(words).encode()).hexdigest()[:32]}"


def _is_refusal(error: BaseException) -> bool:
    """Return whether the API has said that it does not make a pod, rather than nothing."""
    status = status_of(error)
    return status is not None and 400 <= status < 500 and status != HTTP_CONFLICT  # noqa: PLR2004 - client errors
