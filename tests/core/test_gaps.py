"""What the nodes of a selection depend on through others that are not in it."""

import msgspec
import pytest
from manifest_builder import manifest, resource

from dbt_watch.core.log.skip_causes import SkipCauses
from dbt_watch.core.manifest.decode import Manifest, graph_of
from dbt_watch.core.results import NodeResult
from dbt_watch.core.run_notes import outline_of
from dbt_watch.core.selection.gaps import edges_over_gaps, selected_nodes

RAW, ORDERS, THIN, LATE = "seed.shop.raw", "model.shop.orders", "model.shop.thin", "model.shop.late"


@pytest.fixture(scope="module")
def graph():
    content = manifest(
        resource("source.shop.landed.payments", source_name="landed"),
        resource(RAW),
        resource(ORDERS, RAW, "source.shop.landed.payments"),
        resource(THIN, ORDERS, config={"materialized": "ephemeral"}),
        resource(LATE, THIN),
        resource("exposure.shop.figures", LATE),
    )
    return graph_of(msgspec.json.decode(msgspec.json.encode(content), type=Manifest))


def test_a_selection_without_a_gap_has_no_more_edges_and_the_nodes_as_they_are(graph):
    whole = (RAW, ORDERS, THIN, LATE)
    assert edges_over_gaps(graph, whole) == {}
    assert selected_nodes(graph, whole) == {unique_id: graph.nodes[unique_id] for unique_id in whole}


def test_a_node_depends_on_the_nearest_one_behind_those_that_are_left_out(graph):
    assert edges_over_gaps(graph, (RAW, ORDERS, LATE)) == {LATE: (ORDERS,)}
    assert edges_over_gaps(graph, (RAW, LATE)) == {LATE: (RAW,)}
    assert selected_nodes(graph, (RAW, LATE))[LATE].depends_on == (THIN, RAW)


def test_what_is_left_out_at_an_end_is_no_gap(graph):
    assert edges_over_gaps(graph, (ORDERS, THIN)) == {}


def test_a_skipped_node_names_the_failure_behind_a_model_that_was_not_selected(graph):
    known = {
        RAW: NodeResult(unique_id=RAW, status="error"),
        LATE: NodeResult(unique_id=LATE, status="skipped"),
    }
    assert SkipCauses(selected_nodes(graph, (RAW, LATE)), known).settled() == {LATE: (RAW,)}


def test_the_outline_of_a_build_has_a_line_over_what_is_not_built(graph):
    outline = outline_of(graph, (RAW, LATE), {}, "build")
    by_id = {node.unique_id: node.depends_on for node in outline.graph_nodes}
    assert by_id[LATE] == (THIN, RAW)
