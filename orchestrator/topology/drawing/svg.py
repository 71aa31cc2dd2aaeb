"""Draw a topology as SVG: nodes with names, links with labels.

What all links share is said once under the title instead of on every line. A link that would run through a
node bends around it. Nothing outside the file is needed to show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import hypot
from xml.sax.saxutils import escape, quoteattr

from orchestrator.topology.drawing.layout import Point, place_nodes
from orchestrator.topology.drawing.text import link_label
from orchestrator.topology.link_words import label
from orchestrator.topology.model import Link, Node, Topology

__all__ = ["svg"]

_SPACE = 74  # pixels that one unit of the layout becomes
_RADIUS = 17
_MARGIN = 56
_HEAD = 54
_MOST_LABELS = 60
_MOST_BENDS = 400_000  # links × nodes; beyond that, lines stay straight

_FILLS = ("#dbeafe", "#dcfce7", "#fef3c7", "#fae8ff", "#ffe4e6", "#e2e8f0")
_STATES: Mapping[str, str] = {
    "ready": "#15803d",
    "starting": "#b45309",
    "unreachable": "#b91c1c",
    "stopped": "#b91c1c",
    "vacant": "#64748b",
}
_STYLE = """\
text { font-family: system-ui, "Helvetica Neue", Arial, sans-serif; fill: #0f172a; }
.title { font-size: 17px; font-weight: 600; }
.note { font-size: 12px; fill: #475569; }
.id { font-size: 13px; font-weight: 600; text-anchor: middle; }
.name, .spec { text-anchor: middle; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
.name { font-size: 12px; }
.spec { font-size: 10.5px; fill: #334155; }
.link { fill: none; stroke: #94a3b8; stroke-width: 1.6; }
.node { stroke: #334155; stroke-width: 1.6; }
.external { stroke-dasharray: 4 3; }
"""


def svg(topology: Topology, states: Mapping[int, str]) -> str:
    """Return the picture; `states` of a running lab colour the nodes' outlines."""
    shared = _shared(topology)
    labels = _labels(topology, shared)
    points, width, height = _in_pixels(place_nodes(topology), _space(labels))
    notes = _notes(topology, shared)
    width = max(
        width, 9.5 * len(topology.name) + 2 * _MARGIN, *(6.6 * len(note) + 2 * _MARGIN for note in notes)
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f"aria-label={quoteattr('topology ' + topology.name)}>",
        f"<style>\n{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="title" x="{_MARGIN // 2}" y="28">{escape(topology.name)}</text>',
        *(
            f'<text class="note" x="{_MARGIN // 2}" y="{46 + 16 * i}">{escape(note)}</text>'
            for i, note in enumerate(notes)
        ),
    ]
    bends = {link: _bend(link, points) for link in topology.links} if _may_bend(topology) else {}
    parts += [_line(link, points, bends.get(link, 0.0)) for link in topology.links]
    parts += _placed(labels, points, bends)
    fills = _fills(topology)
    middle = sum(y for _, y in points.values()) / len(points) - 1
    parts += [
        _node(node, topology, points[node.id], fills, states.get(node.id), middle)
        for node in topology.nodes.values()
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _in_pixels(positions: Mapping[int, Point], space: float) -> tuple[dict[int, Point], float, float]:
    """Move and scale the layout so that it begins below the title."""
    left = min(x for x, _ in positions.values())
    top = min(y for _, y in positions.values())
    right = max(x for x, _ in positions.values())
    bottom = max(y for _, y in positions.values())
    head = _HEAD + _MARGIN
    points = {
        node: ((x - left) * space + _MARGIN, (y - top) * space + head) for node, (x, y) in positions.items()
    }
    return points, (right - left) * space + 2 * _MARGIN, (bottom - top) * space + head + _MARGIN


def _labels(topology: Topology, shared: str) -> dict[Link, list[str]]:
    """Return the lines of text beside each link that does something of its own, if there is room for them."""
    if len(topology.links) > _MOST_LABELS:
        return {}
    labels = {link: link_label(link, (f"{link.a}→{link.b}", f"{link.b}→{link.a}")) for link in topology.links}
    return {link: said.split(", ") for link, said in labels.items() if said not in ("", shared)}


def _space(labels: Mapping[Link, list[str]]) -> float:
    """Return the pixels of one unit of the layout; labels beside links need more of them."""
    longest = max((len(line) for lines in labels.values() for line in lines), default=0)
    return _SPACE + 4.5 * longest


_Box = tuple[float, float, float, float]  # middle, width, height


def _placed(
    labels: Mapping[Link, list[str]], points: Mapping[int, Point], bends: Mapping[Link, float]
) -> list[str]:
    """Return the labels, each where along its link it covers the least of nodes and other labels."""
    side = _RADIUS * 2.0 + 4
    nodes: list[_Box] = [(x, y, side, side) for x, y in points.values()]
    boxes: dict[Link, _Box] = {}
    # What is placed early does not know what comes later, so everything is placed a second time.
    for link, lines in [*labels.items(), *labels.items()]:
        width, height = 5.6 * max(map(len, lines)), 13.0 * len(lines)
        others = nodes + [box for other, box in boxes.items() if other is not link]
        spots = [_along(link, points, bends.get(link, 0.0), t) for t in (0.5, 0.36, 0.64, 0.28, 0.72)]
        choices = [(x, y, width, height) for x, y in spots]
        boxes[link] = min(choices, key=lambda box: sum(_overlap(box, other) for other in others))
    return [text for link, lines in labels.items() for text in _written(boxes[link], lines)]


def _overlap(one: _Box, other: _Box) -> float:
    over_x = (one[2] + other[2]) / 2 - abs(one[0] - other[0])
    over_y = (one[3] + other[3]) / 2 - abs(one[1] - other[1])
    return over_x * over_y if over_x > 0 and over_y > 0 else 0.0


def _written(box: _Box, lines: list[str]) -> list[str]:
    first = box[1] + 3.5 - 13 * (len(lines) - 1) / 2
    return [
        f'<text class="spec" x="{box[0]:.1f}" y="{first + 13 * i:.1f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    ]


def _shared(topology: Topology) -> str:
    """Return what most links do, if that is worth saying once."""
    counts = Counter(label(link.forward) for link in topology.links if link.forward == link.backward)
    counts.pop("", None)
    if not counts:
        return ""
    said, count = counts.most_common(1)[0]
    return said if count > 2 and count * 2 > len(topology.links) else ""


def _notes(topology: Topology, shared: str) -> list[str]:
    nodes, links = len(topology.nodes), len(topology.links)
    first = f"{nodes} node{'s' * (nodes != 1)}, {links} link{'s' * (links != 1)}, {topology.subnet}"
    if not shared:
        return [first]
    same = sum(link_label(link) == shared for link in topology.links)
    return [first, f"{'every link' if same == links else 'links without a word'}: {shared}"]


def _fills(topology: Topology) -> dict[str, str]:
    tiers = sorted({node.labels["tier"] for node in topology.nodes.values() if "tier" in node.labels})
    return {tier: _FILLS[i % len(_FILLS)] for i, tier in enumerate(tiers)}


def _node(
    node: Node,
    topology: Topology,
    point: Point,
    fills: Mapping[str, str],
    state: str | None,
    middle: float,
) -> str:
    x, y = point
    tier = node.labels.get("tier", "")
    about = [f"{node.name}, {topology.address(node.id)}", *(f"{k}={v}" for k, v in node.labels.items())]
    if node.external:
        about.append("external")
    if state:
        about.append(state)
    kind = "node external" if node.external else "node"
    stroke = f' style="stroke: {_STATES[state]}; stroke-width: 3"' if state and state in _STATES else ""
    fill = fills.get(tier, "#f1f5f9")
    shape = f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{fill}"{stroke}/>'
    number = f'<text class="id" x="{x:.1f}" y="{y + 4.5:.1f}">{node.id}</text>'
    name = ""
    if node.name != f"node-{node.id}":
        # Away from the middle, where the links are.
        beside = y - _RADIUS - 6 if y < middle else y + _RADIUS + 14
        name = f'<text class="name" x="{x:.1f}" y="{beside:.1f}">{escape(node.name)}</text>'
    return f"<g><title>{escape(', '.join(about))}</title>{shape}{number}{name}</g>"


def _may_bend(topology: Topology) -> bool:
    return len(topology.links) * len(topology.nodes) <= _MOST_BENDS


def _bend(link: Link, points: Mapping[int, Point]) -> float:
    """Return how far, in parts of its length, a link has to bend so as not to run through a node."""
    others = [point for node, point in points.items() if node not in (link.a, link.b)]
    best, clearest = 0.0, -1.0
    for bend in (0.0, 0.18, -0.18, 0.3, -0.3, 0.45, -0.45):
        clear = min((_clearance(link, points, bend, point) for point in others), default=1e9)
        if clear > _RADIUS * 1.35:
            return bend
        if clear > clearest:
            best, clearest = bend, clear
    return best


def _clearance(link: Link, points: Mapping[int, Point], bend: float, point: Point) -> float:
    near = 1e9
    for i in range(1, 20):
        x, y = _along(link, points, bend, i / 20)
        near = min(near, hypot(x - point[0], y - point[1]))
    return near


def _control(link: Link, points: Mapping[int, Point], bend: float) -> Point:
    (x1, y1), (x2, y2) = points[link.a], points[link.b]
    return (x1 + x2) / 2 - (y2 - y1) * bend, (y1 + y2) / 2 + (x2 - x1) * bend


def _along(link: Link, points: Mapping[int, Point], bend: float, t: float) -> Point:
    (x1, y1), (x2, y2) = points[link.a], points[link.b]
    cx, cy = _control(link, points, bend)
    u = 1 - t
    return u * u * x1 + 2 * u * t * cx + t * t * x2, u * u * y1 + 2 * u * t * cy + t * t * y2


def _line(link: Link, points: Mapping[int, Point], bend: float) -> str:
    (x1, y1), (x2, y2) = points[link.a], points[link.b]
    about = escape(f"{link.a}–{link.b}: {link_label(link) or 'plain'}")
    if bend:
        cx, cy = _control(link, points, bend)
        path = f"M{x1:.1f} {y1:.1f}Q{cx:.1f} {cy:.1f} {x2:.1f} {y2:.1f}"
    else:
        path = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"
    return f'<path class="link" d="{path}"><title>{about}</title></path>'
