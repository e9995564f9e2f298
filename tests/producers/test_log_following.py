"""What both log readers ask next, and when, by a clock of its own and without a Kubernetes."""

import asyncio
from types import SimpleNamespace

import pytest
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from dbt_watch.core.steps import Pause, run
from dbt_watch.producers.pods import log_following as module
from dbt_watch.producers.pods.async_log_reader import AsyncPodLogReader
from dbt_watch.producers.pods.container_end import ContainerEnd
from dbt_watch.producers.pods.log_following import (
    LogFollowing,
    Position,
    ReadLog,
    ReadPod,
    StreamLines,
    StreamOutcome,
)

NOTHING, SOMETHING = StreamOutcome(arrived=False, error=None), StreamOutcome(arrived=True, error=None)
DELETED = ContainerEnd(None, "the pod was deleted")


def cut(status=None, *, arrived=False):
    return StreamOutcome(arrived, ConnectionError("reset") if status is None else ApiException(status=status))


def pod(**state):
    state = k8s.V1ContainerState(**state)
    status = k8s.V1ContainerStatus(
        name="base", state=state, image="x", image_id="x", ready=False, restart_count=0
    )
    return k8s.V1Pod(status=k8s.V1PodStatus(phase="Running", container_statuses=[status]))


WAITING = pod(waiting=k8s.V1ContainerStateWaiting(reason="ContainerCreating"))
RUNNING = pod(running=k8s.V1ContainerStateRunning())
ENDED = pod(terminated=k8s.V1ContainerStateTerminated(exit_code=3, reason="Error"))


class Answers:
    """Answers each step from a list; the last answer is given for ever."""

    def __init__(self, *, logs=(), pods=(), rest=(NOTHING,)):
        self.now = 0.0
        self.asked = 0
        self.pauses = []
        self.rests = 0
        self._answers = {"logs": list(logs), "pods": list(pods), "rest": list(rest)}

    def __call__(self, step):
        self.asked += 1
        if self.asked > 100:
            pytest.fail("it goes on for ever")
        if isinstance(step, Pause):
            self.pauses.append(step.seconds)
            self.now += step.seconds
            return None
        kind = "pods" if isinstance(step, ReadPod) else "logs" if step.follow else "rest"
        self.rests += kind == "rest"
        answers = self._answers[kind]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def follow(monkeypatch):
    """Follow a log that is answered so, and return how it has ended."""

    def follow(answers, **more):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: answers.now))
        following = LogFollowing(
            "pod", "default", "base", position=Position(), on_lines=lambda *_: None, **more
        )
        return run(following.steps(), answers)

    return follow


def test_a_stream_that_brings_something_is_renewed_soon_and_one_that_brings_nothing_later_each_time(follow):
    logs = [NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, SOMETHING, NOTHING, SOMETHING]
    answers = Answers(logs=logs, pods=[RUNNING] * 8 + [ENDED])
    assert follow(answers) == ContainerEnd(3)
    assert answers.pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 0.5, 1.0, 0.5]


def test_the_rest_is_read_until_that_has_worked_once(follow):
    answers = Answers(logs=[SOMETHING], pods=[ENDED], rest=[cut(), cut(500), NOTHING])
    assert follow(answers) == ContainerEnd(3)
    assert answers.pauses == [0.5, 1.0]


def test_the_rest_is_given_up_after_a_while(follow, caplog):
    answers = Answers(logs=[SOMETHING], pods=[ENDED], rest=[cut()])
    assert follow(answers, rest_timeout=10.0) == ContainerEnd(3)
    assert answers.pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert "the last lines may be missing" in caplog.text


@pytest.mark.parametrize(
    ("logs", "pods"),
    [([cut(404)], [ApiException(status=404)]), ([cut()], [RUNNING, ApiException(status=404)])],
)
def test_a_pod_that_was_deleted_is_an_end_and_its_rest_is_asked_for_once(follow, logs, pods):
    answers = Answers(logs=logs, pods=pods, rest=[cut(404)])
    assert follow(answers) == DELETED
    assert answers.rests == 1


@pytest.mark.parametrize(
    ("streams", "is_told"),
    [
        ({"logs": [cut()]}, True),
        ({"logs": [cut(500)]}, True),
        ({"logs": [cut(404)]}, False),  # the pod's state tells
        ({"logs": [SOMETHING], "rest": [cut(404)]}, True),
        ({"logs": [SOMETHING]}, False),
    ],
)
def test_a_cut_is_told_unless_the_pod_has_gone(follow, caplog, streams, is_told):
    with caplog.at_level("INFO"):
        follow(Answers(pods=[ENDED], **streams))
    assert ("was interrupted" in caplog.text) is is_told


def test_an_answer_that_says_nothing_of_the_pod_is_asked_for_again(follow):
    answers = Answers(logs=[cut()], pods=[ConnectionError("away"), ApiException(status=500), ENDED])
    assert follow(answers) == ContainerEnd(3)


@pytest.mark.parametrize(
    "answers",
    [
        {"logs": [cut(401)], "pods": [RUNNING]},
        {"logs": [SOMETHING], "pods": [ApiException(status=401)]},
        {"logs": [SOMETHING], "pods": [ENDED], "rest": [cut(401)]},
    ],
)
def test_credentials_that_were_refused_are_for_the_caller_if_he_says_so(follow, answers):
    with pytest.raises(ApiException):
        follow(Answers(**answers), raises=frozenset({401}))


def test_credentials_that_were_refused_are_a_cut_like_any_other_if_nobody_can_do_anything(follow):
    pods = [ApiException(status=401), RUNNING, ENDED]
    answers = Answers(logs=[cut(401), SOMETHING], pods=pods, rest=[cut(401), NOTHING])
    assert follow(answers) == ContainerEnd(3)


def test_after_a_cut_the_log_is_asked_for_since_the_last_line_by_the_readers_own_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    following = LogFollowing("pod", "default", "base", position=Position(), on_lines=lambda *_: None)
    assert "since_seconds" not in following.request(follow=True)
    following.lines().feed(b"2026-11-21T10:00:00Z text\n")
    now[0] += 7.5
    assert following.request(follow=True)["since_seconds"] == 13


def test_lines_that_are_read_again_are_told_from_new_ones():
    found = []
    position = Position()

    def read(text, error=None):
        lines = StreamLines(position, lambda lines, is_new: found.append((is_new, lines)))
        lines.feed(text)
        return lines.end(error)

    first, second = b"2026-11-21T10:00:00.1Z one\n", b"2026-11-21T10:00:00.2Z two\n"
    error = ConnectionError("reset")
    assert read(first + second[:-6], error) == StreamOutcome(arrived=True, error=error)
    assert read(first + second[:-1]) == StreamOutcome(arrived=True, error=None)
    assert found == [(True, [b"one"]), (False, [b"one"]), (True, [b"two"])]
    assert StreamLines(position, None).end(error) == StreamOutcome(arrived=False, error=error)


class TestInATriggerer:
    @pytest.fixture
    def reader(self):
        async def make():
            return AsyncPodLogReader(
                None, "pod", "default", "base", position=Position(), on_lines=lambda *_: None
            )

        return asyncio.run(make())

    def test_the_start_of_the_container_is_awaited_first(self, reader):
        answers = Answers(logs=[SOMETHING], pods=[WAITING, WAITING, RUNNING, ENDED])
        assert run(reader._steps(), answers) == ContainerEnd(3)
        assert answers.pauses == [0.7, 0.7]
        assert reader.started.is_set()

    def test_an_api_that_does_not_answer_meanwhile_is_asked_less_and_less_often(self, reader):
        away = ConnectionError("away")
        answers = Answers(logs=[SOMETHING], pods=[away] * 5 + [WAITING, away, RUNNING, ENDED])
        run(reader._steps(), answers)
        assert answers.pauses == [1.4, 2.8, 5.6, 10.0, 10.0, 0.7, 1.4]

    def test_of_a_container_that_has_ended_meanwhile_there_is_only_the_rest_to_read(self, reader):
        followed = []
        answers = Answers(pods=[ENDED])

        def do(step):
            followed.append(isinstance(step, ReadLog) and step.follow)
            return answers(step)

        assert run(reader._steps(), do) == ContainerEnd(3)
        assert not any(followed)
        assert reader.started.is_set()

    def test_a_pod_that_is_gone_before_its_container_has_started_is_an_end(self, reader):
        answers = Answers(pods=[WAITING, ApiException(status=404)], rest=[cut(404)])
        assert run(reader._steps(), answers) == DELETED
        assert not reader.started.is_set()
