"""Pods, their nodes and the way to them fail while dbt runs."""

import pytest

pytestmark = pytest.mark.faults

KINDS = {
    "evicted": (lambda faults, pod: faults.evict(pod), "Evicted"),
    "out of memory": (lambda faults, pod: faults.kill_for_memory(pod), "OOMKilled"),
    "killed": (lambda faults, pod: faults.kill(pod), "137"),
}


@pytest.fixture
def faults(cluster):
    yield cluster.faults
    cluster.faults.end_all()


@pytest.mark.quick(kind="evicted", producer="on a worker")
@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_comes_to_a_bad_end_and_the_next_attempt_goes_on(strike, faults, kind):
    run = strike()
    with run.held_midway() as pod:
        KINDS[kind][0](faults, pod)
    strike.check(run)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_comes_to_a_bad_end_and_there_is_no_next_attempt(strike, faults, kind):
    run = strike("once")
    with run.held_midway() as pod:
        KINDS[kind][0](faults, pod)
    strike.check_failed(run, KINDS[kind][1])


def test_a_pod_is_deleted_by_hand(strike, kubernetes):
    run = strike()
    with run.held_midway() as pod:
        kubernetes.delete_namespaced_pod(pod, "default", grace_period_seconds=0)
    strike.check(run)


def test_the_node_is_lost(strike, faults):
    run = strike()
    with run.held_midway() as pod:
        faults.lose_node(pod)
        faults.collect_lost_pod(pod)
    strike.check(run)


@pytest.mark.quick
def test_the_log_stream_is_cut_twenty_times(strike, faults):
    cuts = faults.cut_log_streams(20, within=2_000)
    run = strike()
    strike.check(run)
    assert cuts.hits


def test_the_credentials_expire_in_the_middle_of_the_log(strike, faults):
    run = strike()
    with run.held_midway():
        faults.expire_credentials()
    strike.check(run)


def test_the_log_is_rotated_away(strike, faults):
    run = strike()
    with run.held_midway() as pod:
        faults.rotate_log(pod)
    strike.check(run)


def test_the_environment_tells_dbt_to_log_nothing(strike):
    run = strike("silenced")
    strike.check(run)


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_of_the_node_is_an_hour_off(strike, faults, hours):
    faults.set_node_clock(hours * 3600)
    cuts = faults.cut_log_streams(3, within=20_000)
    strike.check(strike())
    assert cuts.hits


def test_the_cluster_api_answers_badly_for_ten_seconds(strike, faults):
    run = strike().midway()
    faults.answer(500, seconds=10)
    faults.drop_log_streams()
    strike.check(run)


def test_an_image_that_is_not_there(strike):
    strike.check_never_ran(strike("stuck"), "the pod did not run dbt")


def test_a_quota_that_is_used_up(strike, faults):
    faults.limit_pods("default", 0)
    strike.check_never_ran(strike("once"), "exceeded quota")


def test_no_room_in_the_cluster_until_the_pod_is_given_up(strike, faults):
    faults.no_room()
    strike.check_never_ran(strike("no_room"), "the pod did not run dbt")
