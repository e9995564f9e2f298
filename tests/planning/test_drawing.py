"""The picture of a plan: all pods are in it, nothing overlaps, lines go to the right, and size does not stop it."""

import itertools
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_watch.planning import layout
from dbt_watch.planning.drawing import drawing_of
from dbt_watch.planning.layout import Size, essential, layout_of
from dbt_watch.planning.loading import plan_of_manifest
from dbt_watch.rendering.project_plan import PlannedPod, ProjectPlan

SVG = "{http://www.w3.org/2000/svg}"


def parsed(document):
    return ET.fromstring(document)  # noqa: S314 - our own


def titles(document):
    """Return the first line of each box."""
    groups = parsed(document).iter(f"{SVG}g")
    return [group.find(f"{SVG}text").text for group in groups if group.find(f"{SVG}text") is not None]


@pytest.mark.parametrize("name", ["isolated_dag.py", "pod_per_node_dag.py", "between_dag.py"])
def test_every_pod_of_an_example_has_a_box(example_plan, name):
    plan = example_plan(name)
    found = titles(drawing_of(plan))
    for pod in plan.pods:
        title = pod.task_id.removeprefix("build.")
        assert any(text == title or title.startswith(text.removesuffix("…")) for text in found)


def test_tasks_in_the_middle_have_boxes_with_lines_to_them_and_from_them(example_plan):
    document = drawing_of(example_plan("between_dag.py"))
    assert titles(document) == ["dbt_build", "dbt_build_2", "dbt_build_3", "name_batch", "approve"]
    lines = [path for path in parsed(document).iter(f"{SVG}path") if "class" not in path.attrib]
    assert len(lines) == 4


def test_the_tasks_of_nodes_stand_in_the_box_of_their_pod(example_plan):
    document = drawing_of(example_plan("isolated_dag.py"))
    assert "· orders.unit_test" in document
    assert "requests: memory 256Mi" in document


def test_names_that_are_markup_or_no_text_at_all_are_shown_as_text():
    pod = PlannedPod(task_id='build.<b>&"\x00\x1b[31m', kind="producer", nodes=("model.shop.<i>\x08",))
    root = parsed(drawing_of(ProjectPlan(dag_id="shop", group_id="build", project="<shop>", pods=(pod,))))
    assert not list(root.iter(f"{SVG}b"))
    assert any('<b>&"' in text for text in root.itertext())


def test_a_thousand_pods_are_drawn_with_few_lines_led_around_boxes(layers):
    plan = plan_of_manifest(str(layers(50, 20)), image=None, isolate=["*"], warn=pytest.fail)
    assert len(titles(drawing_of(plan))) == 1000


def test_the_lines_that_pass_through_layers_are_bounded(monkeypatch):
    monkeypatch.setattr(layout, "_PASSES", 3)
    chain = [str(number) for number in range(10)]
    long = [(first, f"{first}-{number}") for number, first in enumerate(chain)]
    long += [(f"{first}-{number}", chain[-1]) for number, first in enumerate(chain[:-1])]
    lines = [*itertools.pairwise(chain), *long]
    boxes = {key for line in lines for key in line}
    guided = layout._guided(boxes, lines)
    assert len(guided) < len(lines)
    laid = layout_of(dict.fromkeys(boxes, Size(50, 20)), lines)
    assert {(first, second) for first, second, _ in laid.lines} == set(essential(boxes, lines))


def test_lines_that_follow_from_others_are_left_out():
    assert essential("abcd", [("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")]) == [
        ("b", "c"), ("a", "b"), ("a", "d"),
    ]  # fmt: skip


@st.composite
def drawings(draw):
    count = draw(st.integers(1, 12))
    sizes = st.builds(Size, st.integers(20, 300), st.integers(20, 200))
    boxes = {f"b{number}": draw(sizes) for number in range(count)}
    pairs = list(itertools.combinations(boxes, 2))
    return boxes, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@settings(max_examples=150, deadline=None)
@given(drawings(), st.sampled_from([0, 2, 1500]))
def test_no_two_boxes_overlap_and_every_line_goes_to_the_right(drawn, passes):
    boxes, lines = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_PASSES", passes)
        laid = layout_of(boxes, lines)
    assert laid.boxes.keys() == boxes.keys()
    for first, second in itertools.combinations(boxes, 2):
        a, b = laid.boxes[first], laid.boxes[second]
        is_beside = a.x + boxes[first].width <= b.x or b.x + boxes[second].width <= a.x
        is_below = a.y + boxes[first].height <= b.y or b.y + boxes[second].height <= a.y
        assert is_beside or is_below, (first, second)
    for key, at in laid.boxes.items():
        assert -0.1 <= at.x <= laid.size.width - boxes[key].width + 0.1
        assert -0.1 <= at.y <= laid.size.height - boxes[key].height + 0.1
    if passes:
        for _, _, points in laid.lines:
            assert all(before.x <= after.x for before, after in itertools.pairwise(points))
