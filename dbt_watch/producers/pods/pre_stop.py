"""
The hook that interrupts dbt before its container is stopped, which `producers.pods.operator` gives to the base container.

dbt cancels its queries and closes its log on SIGINT only, and as the first process of a PID namespace it does not even
notice a SIGTERM.
"""

from __future__ import annotations

from typing import Final

from kubernetes.client import models as k8s

# What gets the SIGINT is the container's own first process. It is process 1 where the container has a PID namespace of
# its own. In a pod with `shareProcessNamespace` that is the pause process, whose end kills all containers at once; with
# `hostPID` it is the node's init.
# So it is looked for: of all processes with the mounts of this shell, the one that started first; of several within one
# tick of the clock, the one with the lowest number. All processes of a container have its mounts and no other process
# has, whatever they share besides: the kernel gives a number to each mount, which is the first word of each line of
# mountinfo. Any user may read that and stat, where /proc/*/ns/mnt and /proc/*/root are for the same user only.
# In stat a name in parentheses comes second, with whatever is in it, so the fields are counted from its end: the time
# of the start, in ticks, is the twentieth (proc_pid_stat(5)).
# It runs in any POSIX shell and needs no other program but sleep. It ends when that process has ended. Where it finds
# none, or may not signal it, it ends at once, and Kubernetes' own signal follows.
SCRIPT: Final = r"""
read -r mounts rest </proc/self/mountinfo
first=
for entry in /proc/[0-9]*; do
  pid=${entry#/proc/}
  [ "$pid" != $$ ] || continue
  { read -r same rest <"$entry/mountinfo" && read -r stat <"$entry/stat"; } 2>/dev/null || continue
  [ "$same" = "$mounts" ] || continue
  set -- ${stat##*) }
  [ -n "${20}" ] || continue
  [ -n "$first" ] && [ "$born" -lt "${20}" ] && continue
  [ -n "$first" ] && [ "$born" -eq "${20}" ] && [ "$first" -lt "$pid" ] && continue
  first=$pid born=${20}
done
[ -n "$first" ] && kill -INT "$first" && while kill -0 "$first" 2>/dev/null; do sleep 0.2; done
"""


def interrupt_before_stop(container: k8s.V1Container) -> None:
    """
    Give a container a hook that sends SIGINT to its first process before Kubernetes sends SIGTERM.

    The hook ends when the process does; where an image has no shell it fails, which Kubernetes takes for done, and the
    image's own STOPSIGNAL follows. A hook that the container has already stays.
    """
    if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
        return
    hook = k8s.V1LifecycleHandler(_exec=k8s.V1ExecAction(command=["/bin/sh", "-c", SCRIPT]))
    post_start = None if container.lifecycle is None else container.lifecycle.post_start
    container.lifecycle = k8s.V1Lifecycle(pre_stop=hook, post_start=post_start)
