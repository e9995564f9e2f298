"""
A plan as a picture: a box for each pod with the tasks in it, and lines to what waits for it. `planning.command` writes it as SVG.

What is in a pod is cut after some lines; a browser shows the rest where the mouse rests.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import msgspec

from dbt_watch.core.labels import label_of
from dbt_watch.core.text import printable
from dbt_watch.planning.layout import Size, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbt_watch.planning.layout import Layout, Point
    from dbt_watch.rendering.project_plan import PlannedPod, ProjectPlan

# In pixels.
_LINE: Final = 16
_CHAR: Final = 6.7
_BOLD_CHAR: Final = 7.4
_PADDING: Final = 10
_MARGIN: Final = 24
_HEADER: Final = 40
# How much of a box is shown.
_TASKS: Final = 8
_CHARS: Final = 36
_MANY_PODS: Final = 100

_STYLE: Final = """
text { font: 12px Helvetica, Arial, sans-serif; fill: #1f2933 }
.title { font-weight: bold } .head { font-size: 16px; font-weight: bold } .small { fill: #52606d }
rect { stroke-width: 1.5 } .producer { fill: #fff1ec; stroke: #ff694a } .isolated { fill: #eaf2fd; stroke: #3b7dd8 }
.other { fill: #f4f5f7; stroke: #7b8794; stroke-dasharray: 4 3 }
path { fill: none; stroke: #7b8794; stroke-width: 1.3 } path.tip { fill: #7b8794; stroke: none }
"""


class Box(msgspec.Struct, frozen=True):
    """
    A box of the picture.

    :param kind: "producer", "isolated", or "other" for a task that is none of the project's
    :param lines: its text, the title first
    :param tip: what is told of it where the mouse rests
    """

    kind: str
    lines: tuple[str, ...]
    tip: str

    @property
    def size(self) -> Size:
        """How large it is."""
        title, *others = self.lines
        longest = max(len(title) * _BOLD_CHAR, *(len(line) * _CHAR for line in others), 0)
        return Size(longest + 2 * _PADDING, len(self.lines) * _LINE + 2 * _PADDING)


def drawing_of(plan: ProjectPlan) -> str:
    """
    Return a plan as an SVG document.

    :raises ArgumentError: when the library that lays it out is not installed
    """
    boxes = dict(_boxes(plan))
    layout = layout_of({key: box.size for key, box in boxes.items()}, _lines(plan))
    return _document(plan, boxes, layout)


def _boxes(plan: ProjectPlan) -> Iterator[tuple[str, Box]]:
    prefix = f"{plan.group_id}."
    shown = _TASKS if len(plan.pods) <= _MANY_PODS else None
    for pod in plan.pods:
        yield pod.task_id, _box_of(pod, prefix, shown)
    for task_id, words in _others(plan).items():
        title = _cut(task_id.removeprefix(prefix))
        yield task_id, Box("other", (title, *words), task_id)


def _box_of(pod: PlannedPod, prefix: str, shown: int | None) -> Box:
    """Return the box of a pod, with so many of its tasks; with its name alone for None."""
    count = len(pod.nodes)
    facts = [f"{count} {'node' if count == 1 else 'nodes'}"]
    if pod.kind == "isolated" and pod.image is not None and "image" in pod.settings:
        facts.append(pod.image)
    for kind, amounts in (pod.resources or {}).items():
        if isinstance(amounts, dict):
            facts += [f"{kind}: {name} {amount}" for name, amount in amounts.items()]
    names = [task.task_id.removeprefix(prefix) for task in pod.tasks]
    lines = [pod.task_id.removeprefix(prefix), *facts, *(f"· {name}" for name in names[:shown])]
    if shown is None:
        lines = lines[:1]
    elif len(names) > shown:
        lines.append(f"· and {len(names) - shown} more")
    tip = "\n".join(filter(None, [pod.task_id, pod.why, ", ".join(map(label_of, pod.nodes))]))
    return Box(pod.kind, tuple(map(_cut, lines)), tip)


def _others(plan: ProjectPlan) -> dict[str, tuple[str, ...]]:
    """Return the tasks that are none of the project's, each with what is written below its name."""
    found: dict[str, tuple[str, ...]] = {
        task.task_id: ("function",) if task.is_function else () for task in plan.around
    }
    for pod in plan.pods:
        for awaited in pod.waits_for:
            if awaited.node is None and awaited.task_id not in found:
                found[awaited.task_id] = ()
    return found


def _lines(plan: ProjectPlan) -> list[tuple[str, str]]:
    """Return which box comes before which."""
    pod_of_task = {pod.task_id: pod.task_id for pod in plan.pods}
    pod_of_node: dict[str, str] = {}
    for pod in plan.pods:
        pod_of_task.update((task.task_id, pod.task_id) for task in pod.tasks)
        pod_of_node.update((unique_id, pod.task_id) for unique_id in pod.nodes)
    lines: dict[tuple[str, str], None] = {}
    for pod in plan.pods:
        for awaited in pod.waits_for:
            lines[pod_of_task.get(awaited.task_id, awaited.task_id), pod.task_id] = None
    for task in plan.around:
        lines.update(((pod_of_node[node], task.task_id), None) for node in task.after if node in pod_of_node)
        lines.update(((task.task_id, pod_of_node[node]), None) for node in task.before if node in pod_of_node)
    return [(first, second) for first, second in lines if first != second]


def _document(plan: ProjectPlan, boxes: dict[str, Box], layout: Layout) -> str:
    width = max(layout.size.width, 420) + 2 * _MARGIN
    height = layout.size.height + 2 * _MARGIN + _HEADER
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{width:.0f}",
            "height": f"{height:.0f}",
            "viewBox": f"0 0 {width:.0f} {height:.0f}",
            "role": "img",
        },
    )
    heading = f"{'.'.join(filter(None, [plan.dag_id, plan.group_id]))}: {plan.project}"
    isolated = sum(pod.kind == "isolated" for pod in plan.pods)
    size = f"nodes: {plan.node_count}, {plan.runs_in}s: {len(plan.pods)}"
    if isolated:
        size += f", of isolated nodes (blue): {isolated}"
    ET.SubElement(root, "title").text = _legal(f"{heading}, {size}")
    ET.SubElement(root, "desc").text = "A line that follows from others is left out."
    ET.SubElement(root, "style").text = _STYLE
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    _text(root, heading, _MARGIN, _MARGIN + 8, "head")
    _text(root, size, _MARGIN, _MARGIN + 26, "small")
    inner = ET.SubElement(root, "g", {"transform": f"translate({_MARGIN} {_MARGIN + _HEADER})"})
    for _, _, points in layout.lines:
        ET.SubElement(inner, "path", {"d": _curve(points)})
        ET.SubElement(inner, "path", {"d": _tip(points[-1]), "class": "tip"})
    for key, box in boxes.items():
        _draw(inner, box, layout.boxes[key])
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _draw(parent: ET.Element, box: Box, at: Point) -> None:
    group = ET.SubElement(parent, "g", {"transform": f"translate({at.x:.1f} {at.y:.1f})"})
    ET.SubElement(group, "title").text = _legal(box.tip)
    attributes = {"width": f"{box.size.width:.1f}", "height": f"{box.size.height:.1f}", "class": box.kind}
    ET.SubElement(group, "rect", {**attributes, "rx": "14" if box.kind == "other" else "5"})
    for number, line in enumerate(box.lines):
        style = "title" if number == 0 else "small"
        _text(group, line, _PADDING, _PADDING + (number + 0.75) * _LINE, style)


def _text(parent: ET.Element, text: str, x: float, y: float, style: str) -> None:
    element = ET.SubElement(parent, "text", {"x": f"{x:.0f}", "y": f"{y:.0f}", "class": style})
    element.text = _legal(text)


def _curve(points: Sequence[Point]) -> str:
    """Return a line that is level at all of its points."""
    start = points[0]
    steps = [f"M{start.x:.1f} {start.y:.1f}"]
    for before, point in itertools.pairwise(points):
        if before.y == point.y:
            steps.append(f"L{point.x:.1f} {point.y:.1f}")
            continue
        middle = (before.x + point.x) / 2
        steps.append(f"C{middle:.1f} {before.y:.1f} {middle:.1f} {point.y:.1f} {point.x:.1f} {point.y:.1f}")
    return " ".join(steps)


def _tip(at: Point) -> str:
    return f"M{at.x:.1f} {at.y:.1f} l-8 -4 v8 z"


def _cut(text: str) -> str:
    return text if len(text) <= _CHARS else f"{text[: _CHARS - 1]}…"


def _legal(text: str) -> str:
    """Return a text without the characters that XML has no place for."""
    return "\n".join(printable(line, len(line)) for line in text.split("\n"))
