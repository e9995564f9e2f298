"""What a sensor leaves in XCom, and what is read back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_watch.core.results import NodeResult
from dbt_watch.core.xcom_values import PACKED_ABOVE, results_in, xcom_value

results = st.builds(
    NodeResult,
    unique_id=st.text(min_size=1, max_size=10),
    status=st.sampled_from(["pass", "fail", "warn"]),
    message=st.none() | st.text(max_size=10),
    failures=st.none() | st.integers(0, 99),
)


@pytest.mark.parametrize("count", [1, 2, PACKED_ABOVE, PACKED_ABOVE + 1])
@given(data=st.data())
def test_what_is_written_is_read_back(count, data):
    written = [data.draw(results)] * count
    assert results_in(xcom_value(written)) == written
    assert results_in(json.dumps(xcom_value(written))) == written


def test_the_results_of_ten_thousand_tests_are_a_small_value():
    written = [
        NodeResult(
            unique_id=f"test.shop.not_null_orders_{number}.{number:010x}", name=f"not_null_orders_{number}",
            resource_type="test", status="fail" if number == 7 else "pass", execution_time=number / 1e4,
        )
        for number in range(10_000)
    ]  # fmt: skip
    value = xcom_value(written)
    assert value["statuses"] == {"pass": 9_999, "fail": 1}
    assert len(json.dumps(value)) < 400_000
    assert results_in(value) == written
