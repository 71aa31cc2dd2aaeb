"""Draw a topology as text for Graphviz and Mermaid."""

from __future__ import annotations

from orchestrator.topology.link_words import label
from orchestrator.topology.model import Link, Node, Topology

__all__ = ["dot", "link_label", "mermaid"]


def link_label(link: Link, arrows: tuple[str, str] = ("→", "←")) -> str:
    """Return what a link does; `arrows` mark the directions where they differ."""
    if link.forward == link.backward:
        return label(link.forward)
    forward, backward = (label(spec) or "plain" for spec in (link.forward, link.backward))
    return f"{arrows[0]} {forward}, {arrows[1]} {backward}"


def dot(topology: Topology) -> str:
    """Return the topology for Graphviz; `neato -Tsvg` draws it well."""
    lines = [f"graph {_quoted(topology.name)} {{", "  layout=neato; overlap=false; splines=true;"]
    lines.append('  node [shape=circle, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];')
    for node in topology.nodes.values():
        style = ", style=dashed" if node.external else ""
        lines.append(f"  {node.id} [label={_quoted(_node_label(node))}{style}];")
    for link in topology.links:
        said = link_label(link, _arrows(link))
        shown = f" [label={_quoted(said)}]" if said else ""
        lines.append(f"  {link.a} -- {link.b}{shown};")
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(topology: Topology) -> str:
    """Return the topology as a Mermaid flow chart, as Markdown pages show it."""
    lines = ["flowchart LR"]
    for node in topology.nodes.values():
        lines.append(f'  n{node.id}(("{_node_label(node, "<br/>")}"))')
    for link in topology.links:
        said = link_label(link, _arrows(link))
        shown = f'|"{said}"|' if said else ""
        lines.append(f"  n{link.a} ---{shown} n{link.b}")
    outside = [f"n{node.id}" for node in topology.nodes.values() if node.external]
    if outside:
        lines += ["  classDef external stroke-dasharray: 4 3", f"  class {','.join(outside)} external"]
    return "\n".join(lines) + "\n"


def _arrows(link: Link) -> tuple[str, str]:
    return f"{link.a}→{link.b}", f"{link.b}→{link.a}"


def _node_label(node: Node, newline: str = "\n") -> str:
    return str(node.id) if node.name == f"node-{node.id}" else f"{node.id}{newline}{node.name}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
