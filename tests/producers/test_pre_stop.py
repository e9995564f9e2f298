"""The hook that is added to a container; what it does, test_stop.py shows."""

from kubernetes.client import models as k8s

from dbt_watch.producers.pods.pre_stop import SCRIPT, interrupt_before_stop

OWN = k8s.V1LifecycleHandler(_exec=k8s.V1ExecAction(command=["/bin/true"]))


def container(lifecycle=None):
    return k8s.V1Container(name="base", lifecycle=lifecycle)


def hook_of(container):
    """Return the command that runs before a container is stopped."""
    return container.lifecycle.pre_stop._exec.command


def test_a_shell_interrupts_dbt_before_the_container_is_stopped():
    base = container()
    interrupt_before_stop(base)
    assert hook_of(base) == ["/bin/sh", "-c", SCRIPT]
    assert base.lifecycle.post_start is None


def test_a_hook_of_ones_own_is_left_alone():
    base = container(k8s.V1Lifecycle(pre_stop=OWN))
    interrupt_before_stop(base)
    assert base.lifecycle.pre_stop is OWN


def test_another_hook_is_kept_beside_it():
    base = container(k8s.V1Lifecycle(post_start=OWN))
    interrupt_before_stop(base)
    assert base.lifecycle.post_start is OWN
    assert hook_of(base) == ["/bin/sh", "-c", SCRIPT]
