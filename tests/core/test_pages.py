"""The journal as it lies in XCom."""

import json
from datetime import datetime, timezone
from uuid import UUID, uuid4

import pytest

from dbt_watch.core.journal import JournalError, JournalWriter
from dbt_watch.core.pages import EMPTY_PAGE, Page, born_at, decode_page, encode_page, page_key
from dbt_watch.core.results import NodeResult


def test_a_page_comes_back_as_it_was_written():
    writer = JournalWriter(attempt=3)
    writer.add(
        [NodeResult(unique_id="model.shop.orders", status="error", message="no such column \u2028 'x'")]
    )
    writer.close(1, reason="OOMKilled")
    page = Page(writer.take(), will_retry=True, began=1.5)
    assert decode_page(encode_page(page)) == page
    assert decode_page(json.loads(encode_page(page))) == page


def test_an_empty_page_is_no_page():
    assert decode_page(EMPTY_PAGE) is None


@pytest.mark.parametrize(
    "value", ["{", "[]", "42", 42, {"chunk": {}}, '{"chunk": 1, "will_retry": true, "began": 0}']
)
def test_what_is_no_page_is_refused(value):
    with pytest.raises(JournalError):
        decode_page(value)


def test_keys_sort_as_pages_do():
    keys = [page_key(number) for number in (0, 9, 10, 9_999)]
    assert keys == sorted(keys)


def test_the_id_of_a_task_instance_tells_when_it_was_made():
    born = born_at(UUID("01a1fdf4-a6fc-7104-bb0c-9e8067d9ef50"))
    assert (
        datetime.fromtimestamp(born, timezone.utc).isoformat(timespec="minutes") == "2026-11-21T11:53+00:00"
    )
    assert born_at(str(uuid4())) == 0.0
