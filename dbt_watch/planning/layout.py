"""
Where the boxes and the lines of a drawing go: layers from left to right, by the library `grandalf`. `planning.drawing` asks.

Kept within bounds for large drawings: a line that follows from others is left out, and the longest lines are not led around boxes
where there are too many of them.
"""

from __future__ import annotations

from collections import defaultdict
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Final

import msgspec

from dbt_watch.core.extras import installation_of
from dbt_watch.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# In pixels; between layers there are lines, the more the more boxes there are.
_BETWEEN_LAYERS: Final = 60
_MOST_BETWEEN_LAYERS: Final = 160
_BETWEEN_BOXES: Final = 18
_BETWEEN_PARTS: Final = 40
# A line takes so much of the height of each layer that it passes through.
_LINE_HEIGHT: Final = 8
# Boxes that nothing connects are laid out in lines of about this length.
_WIDTH: Final = 1600
# How many layers lines may pass through, all together. The time that the library takes grows with the square of it.
_PASSES: Final = 1500


class Size(msgspec.Struct, frozen=True):
    """How large a box is, in pixels."""

    width: float
    height: float


class Point(msgspec.Struct, frozen=True):
    """A place in the drawing, in pixels from its left upper corner."""

    x: float
    y: float


class Layout(msgspec.Struct):
    """
    A drawing to be.

    :param boxes: the left upper corner of each box
    :param lines: of each line the boxes that it connects and the points that it goes through
    :param size: of the whole
    """

    boxes: dict[str, Point]
    lines: list[tuple[str, str, list[Point]]]
    size: Size


def layout_of(boxes: Mapping[str, Size], lines: Iterable[tuple[str, str]]) -> Layout:
    """
    Lay out boxes, so that each line goes from left to right.

    :param boxes: the size of each
    :param lines: pairs of boxes, the first one comes before the second; no circles
    :raises ArgumentError: when the library is not installed
    """
    needed = essential(boxes, lines)
    laid = Layout({}, [], Size(0, 0))
    x = y = height = width = 0.0
    for part in _connected(boxes, needed):
        inside = [line for line in needed if line[0] in part]
        piece = _laid({key: boxes[key] for key in part}, inside)
        if x and x + piece.size.width > _WIDTH:
            x, y, height = 0.0, y + height + _BETWEEN_PARTS, 0.0
        laid.boxes.update((key, Point(point.x + x, point.y + y)) for key, point in piece.boxes.items())
        for first, second, points in piece.lines:
            laid.lines.append((first, second, [Point(point.x + x, point.y + y) for point in points]))
        x += piece.size.width + _BETWEEN_PARTS
        height = max(height, piece.size.height)
        width = max(width, x - _BETWEEN_PARTS)
    laid.size = Size(width, y + height)
    return laid


def essential(boxes: Iterable[str], lines: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the lines that do not follow from others, as the one from the first to the third of three does."""
    after: dict[str, set[str]] = {key: set() for key in boxes}
    for first, second in lines:
        after[first].add(second)
    number = {key: 1 << place for place, key in enumerate(after)}
    reached: dict[str, int] = {}
    found = []
    for key in TopologicalSorter(after).static_order():  # what comes after a box comes first here
        farther = 0
        for other in after[key]:
            farther |= reached[other]
        direct = [other for other in sorted(after[key]) if not number[other] & farther]
        found += [(key, other) for other in direct]
        reached[key] = farther
        for other in direct:
            reached[key] |= number[other]
    return found


def _connected(boxes: Iterable[str], lines: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Return the boxes in parts that no line connects, the largest first."""
    beside: dict[str, list[str]] = defaultdict(list)
    for first, second in lines:
        beside[first].append(second)
        beside[second].append(first)
    parts: list[set[str]] = []
    seen: set[str] = set()
    for key in boxes:
        if key not in seen:
            part, stack = {key}, [key]
            while stack:
                new = set(beside[stack.pop()]) - part
                part |= new
                stack += sorted(new)
            seen |= part
            parts.append(part)
    return sorted(parts, key=len, reverse=True)


def _laid(boxes: Mapping[str, Size], lines: Sequence[tuple[str, str]]) -> Layout:
    """
    Lay out boxes that are connected.

    The library's layers go from top to bottom, so heights and widths change places on the way to it and back.
    """
    try:
        from grandalf.graphs import Edge, Vertex, graph_core  # noqa: PLC0415 - comes with an extra
        from grandalf.layouts import SugiyamaLayout  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = error.name or "grandalf"
        raise ArgumentError(
            "--svg", missing, f"a library to be installed: {installation_of(missing)}"
        ) from None

    guided = _guided(boxes, lines)
    laid = Layout({}, [], Size(0, 0))
    x = y = 0.0
    # Several, where a line that is not guided is all that connects them.
    for part in _connected(boxes, guided):
        vertices = {key: Vertex(key) for key in sorted(part)}
        for key, vertex in vertices.items():
            vertex.view = _Box(boxes[key])
        edges = {line: Edge(vertices[line[0]], vertices[line[1]]) for line in guided if line[0] in part}
        for edge in edges.values():
            edge.view = _Line()
        # Not `Graph`, which looks for connected parts itself and takes seconds for 1,000 boxes.
        layout = SugiyamaLayout(graph_core(list(vertices.values()), list(edges.values())))
        layout.xspace = _BETWEEN_BOXES
        layout.yspace = min(_BETWEEN_LAYERS + len(part) // 5, _MOST_BETWEEN_LAYERS)
        layout.dw, layout.dh = _LINE_HEIGHT, 1
        roots = [vertex for vertex in vertices.values() if not vertex.e_in()]
        layout.init_all(roots=roots, inverted_edges=[])
        layout.draw()
        views = [vertex.view for vertex in vertices.values()]
        above = y - min(view.xy[0] - view.w / 2 for view in views)
        for key, vertex in vertices.items():
            across, along = vertex.view.xy
            laid.boxes[key] = Point(along - boxes[key].width / 2, across - boxes[key].height / 2 + above)
        halves = {view.xy[1]: 0.0 for view in views}
        for view in views:
            halves[view.xy[1]] = max(halves[view.xy[1]], view.h / 2)
        laid.lines += [(*line, _way(edge.view.points, halves, above)) for line, edge in edges.items()]
        x = max(x, *(view.xy[1] + view.h / 2 for view in views))
        y = max(view.xy[0] + view.w / 2 for view in views) + above + _BETWEEN_PARTS
    laid.lines += [(*line, []) for line in set(lines).difference(guided)]
    laid.lines = [
        (first, second, _from_box_to_box(laid, boxes, first, second, points))
        for first, second, points in sorted(laid.lines, key=lambda line: line[:2])
    ]
    laid.size = Size(x, y - _BETWEEN_PARTS)
    return laid


class _Box:
    """A box, as the library wants it."""

    def __init__(self, size: Size) -> None:
        self.w, self.h = size.height, size.width
        self.xy = (0.0, 0.0)


class _Line:
    """A line, likewise."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []

    def setpath(self, points: list[tuple[float, float]]) -> None:
        """Take note of where it goes through, its ends included."""
        self.points = points


def _guided(boxes: Iterable[str], lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the lines that are led around boxes: all of them, less the longest where they pass through too many layers."""
    before: dict[str, list[str]] = {key: [] for key in boxes}
    for first, second in lines:
        before[second].append(first)
    layer: dict[str, int] = {}
    for key in TopologicalSorter(before).static_order():
        layer[key] = max((layer[other] + 1 for other in before[key]), default=0)
    passes = 0
    guided = []
    for first, second in sorted(lines, key=lambda line: layer[line[1]] - layer[line[0]]):
        passes += layer[second] - layer[first] - 1
        if passes > _PASSES:
            break
        guided.append((first, second))
    return guided


def _way(points: Sequence[tuple[float, float]], halves: Mapping[float, float], above: float) -> list[Point]:
    """
    Return the points of a line between its ends: where it enters and where it leaves each layer that it passes through.

    :param points: as the library has them
    :param halves: half the width of each layer, by the place of its middle
    :param above: how far down all of it goes
    """
    way = []
    for across, along in points[1:-1]:
        way += [Point(along - halves[along], across + above), Point(along + halves[along], across + above)]
    return way


def _from_box_to_box(
    laid: Layout, boxes: Mapping[str, Size], first: str, second: str, points: Sequence[Point]
) -> list[Point]:
    start, end = laid.boxes[first], laid.boxes[second]
    return [
        Point(start.x + boxes[first].width, start.y + boxes[first].height / 2),
        *points,
        Point(end.x, end.y + boxes[second].height / 2),
    ]
