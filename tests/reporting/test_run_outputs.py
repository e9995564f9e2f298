"""What is made of a record: the page, the picture, CSV and the summary. Hostile texts stay texts in all of them."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import INDEX, artifact, made, nodes_of, recorded
from rich.console import Console

from dbt_watch.reporting.assembly import record_of, with_comparison
from dbt_watch.reporting.durations import change, duration
from dbt_watch.reporting.html import page_of
from dbt_watch.reporting.run_record import record_in
from dbt_watch.reporting.sources import read_source
from dbt_watch.reporting.svg import picture_of
from dbt_watch.reporting.tables import COLUMNS, csv_of, harmless
from dbt_watch.reporting.terminal import COLUMNS as WIDTH
from dbt_watch.reporting.terminal import summary_of

HOSTILE = (
    "</script><script>alert(1)</script>", "<!--<script>", "--><img src=x onerror=alert(1)>", "{{ script }}", "{{ record }}",
    '"><b>', "&lt;b&gt;", "\u2028\u2029", "]]>", "\x1b]0;title\x07\x1b[2J", "'; DROP TABLE x", "[bold]no markup[/bold]",
)  # fmt: skip


class Parsed(HTMLParser):
    """What a browser finds in a page: its elements, and the text of those that hold no elements."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.attributes = []
        self.raw = {}
        self._inside = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag in {"script", "style"}:
            self._inside = dict(attrs).get("id") or tag

    def handle_endtag(self, tag):
        if tag in {"script", "style"}:
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data


def hostile_run(text):
    """Return a run in which everything that comes from elsewhere is one text."""
    failure = {"status": "error", "message": text, "compiled_code": text, "relation_name": text}
    content = artifact(
        {f"model.{text}.{text}": (0, 1, failure), f"test.{text}.{text}": (1, 2, {"status": text})}
    )
    record = record_of(read_source(content, text, {}))
    return with_comparison(record, record)


def plain_page():
    return Parsed(page_of(made({"model.shop.a": (0, 1, {}), "test.shop.a": (1, 2, {})})))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_hostile_text_becomes_markup(text):
    record = hostile_run(text)
    page = page_of(record)
    found, plain = Parsed(page), plain_page()
    assert found.tags == plain.tags
    assert [a for a in found.attributes if a[1] != "content"] == [
        a for a in plain.attributes if a[1] != "content"
    ]
    assert {key: found.raw[key] for key in ("script", "style")} == {
        key: plain.raw[key] for key in ("script", "style")
    }
    assert record_in(found.raw["record"]) == record


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("</script>!-&\"'{} \u2028xSCRIPT\n"), max_size=40))
def test_the_record_in_a_page_is_the_record(text):
    record = hostile_run(text)
    page = page_of(record)
    assert record_in(Parsed(page).raw["record"]) == record
    assert page.count("<script") == 2


def test_a_page_loads_nothing_and_runs_nothing_but_its_own_script():
    page = page_of(recorded("1.12__duckdb__jaffle_fail"))
    found = Parsed(page)
    policy = dict(
        part.strip().split(" ", 1)
        for part in next(
            value
            for tag, name, value in found.attributes
            if (tag, name) == ("meta", "content") and "src" in value
        ).split(";")
    )
    for directive, element in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(found.raw[element].encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert not [a for a in found.attributes if a[1] in {"src", "style"} or a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?:", found.raw["style"])
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http"):
        assert unsafe not in found.raw["script"]


def test_a_page_has_a_language_headings_in_order_and_names_for_what_can_be_used():
    found = plain_page()
    assert ("html", "lang", "en") in found.attributes
    assert [tag for tag in found.tags if re.fullmatch("h[1-6]", tag)] == ["h1", *["h2"] * 5]
    ids = {value for _, name, value in found.attributes if name == "id"}
    assert {value for _, name, value in found.attributes if name == "aria-labelledby"} <= ids | {
        "node-heading"
    }


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript to check it with")
def test_the_script_of_the_page_can_be_parsed_and_makes_the_same_csv(tmp_path):
    failure = {"status": "error", "message": '=1+1,"quoted"\nand more'}
    now = made({"model.shop.a": (0, 1.5, {}), "model.shop.b": (0, 1, failure), "model.shop.@c": (0, 1, {})})
    record = with_comparison(now, made({"model.shop.a": (0, 1.25, {})}))
    script = Parsed(page_of(record)).raw["script"]
    # Of the page itself, just what the part before the calls at the end needs.
    script = script[: script.index("\nshowHead();")]
    before = f"const document = {{ getElementById: () => ({{ textContent: {json.dumps(record.to_json().decode())} }}) }};\n"
    path = tmp_path / "page.js"
    path.write_text(
        before + script.replace('"use strict";', "") + "\nprocess.stdout.write(csvOf(run.nodes));\n"
    )
    done = subprocess.run(["node", str(path)], capture_output=True, timeout=240, check=True)
    assert done.stdout.decode() == csv_of(record)


def test_a_page_of_3000_nodes_is_below_two_megabytes():
    nodes = {f"model.shop.a_model_with_a_name_{n:04}": (n / 4, n / 4 + 1, {}) for n in range(3_000)}
    assert len(page_of(made(nodes)).encode()) < 2_000_000


# CSV.


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_cell_is_no_formula(text):
    assert harmless(text) == f"'{text}"
    rows = list(csv.reader(io.StringIO(csv_of(hostile_run(text)))))
    for row in rows[1:]:
        assert not [cell for cell in row if cell[:1] in {"=", "+", "@", "\t", "\r"}]


def test_csv_has_a_line_for_each_node_and_the_change_against_another_run():
    now = made(
        {"model.shop.a": (0, 3, {}), "model.shop.b": (3, 4, {"status": "error", "message": 'a "b",\nc'})}
    )
    record = with_comparison(now, made({"model.shop.a": (0, 1, {})}))
    head, first, second = csv.reader(io.StringIO(csv_of(record), newline=""))
    assert tuple(head) == COLUMNS
    assert dict(zip(head, first, strict=True)) | {"file": "", "message": ""} == {
        "unique_id": "model.shop.a", "name": "a", "kind": "model", "state": "success", "seconds": "3.000",
        "seconds_before": "1.000", "change": "2.000", "rows": "", "failures": "", "attempt": "1",
        "started_at": "2026-11-21T12:00:00Z", "finished_at": "2026-11-21T12:00:03Z", "file": "", "message": "",
    }  # fmt: skip
    assert (second[head.index("change")], second[-1]) == ("", 'a "b",\nc')


# The summary and the picture.


def shown(record, **options):
    console = Console(width=WIDTH, file=io.StringIO(), highlight=False, markup=False, emoji=False)
    console.print(summary_of(record, **options))
    return console.file.getvalue()


@pytest.mark.parametrize("name", INDEX)
def test_the_summary_and_the_picture_of_every_recorded_run_fit(name):
    record = recorded(name)
    assert max(map(len, shown(record).splitlines())) <= WIDTH
    root = ET.fromstring(picture_of(record))  # noqa: S314 - we wrote it
    bars = [bar for command in record.commands for lane in command.lanes for bar in lane.bars]
    assert len(root.findall("{*}g")) == len(bars)


def test_the_summary_says_why_and_what_was_not_built():
    text = shown(recorded("1.12__duckdb__jaffle_fail"))
    assert "jaffle_shop: failure" in text
    assert "14 success  1 failure  8 skipped" in text
    assert re.search(r"Why\norders: error", text)
    assert "order_totl" in text
    assert "8 nodes were not built because of it" in text


def test_the_summary_is_cut_unless_all_is_asked_for():
    record = recorded("1.12__postgres__build_t4_fail_debug", nodes_of("1.12__postgres__build_t4_fail_debug"))
    assert "--all shows them" in shown(record)
    assert "--all shows them" not in shown(record, everything=True)


def test_the_summary_says_what_became_slower():
    before, now = (
        made({"model.shop.slow": (0, seconds, {}), "model.shop.b": (0, 1, {})}) for seconds in (2, 9)
    )
    text = shown(with_comparison(now, before))
    assert re.search(r"1 node slower\n\s+slow\s+2\.00 s\s+9\.00 s \+7\.00 s \(\+350%\)", text)
    assert "no node became clearly slower" in shown(with_comparison(before, before))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_a_text_in_a_terminal_and_in_a_picture(text):
    record = hostile_run(text)
    assert "\x1b" not in shown(record)
    assert "\x07" not in shown(record)
    root = ET.fromstring(picture_of(record))  # noqa: S314 - we wrote it
    assert {element.tag.partition("}")[2] for element in root.iter()} <= {
        "svg",
        "title",
        "style",
        "rect",
        "text",
        "line",
        "g",
    }


def test_the_critical_path_is_framed():
    assert 'class="success critical"' not in picture_of(made({"model.shop.a": (0, 1, {})}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (9.994, "9.99 s"), (10, "10.0 s"), (59.96, "1 min 0 s"), (250, "4 min 10 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_a_change_has_a_sign_and_a_share():
    assert (change(10, 12), change(10, 9), change(0, 1)) == ("+2.00 s (+20%)", "-1.00 s (-10%)", "+1.00 s")
