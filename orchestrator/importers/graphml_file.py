"""Parse GraphML into nodes, edges and their data, with a parser that expands no entities.

XML entities can refer to files and other hosts, and can expand to gigabytes; a file that defines any is
refused (defusedxml).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax import SAXException, SAXParseException
from xml.sax.handler import ContentHandler

from orchestrator.errors import Place
from orchestrator.source import Problems

__all__ = ["Edge", "Graph", "parse"]

_MOST_DATA = 10_000
"""So many characters of one attribute are kept."""
_OWNERS = ("graph", "node", "edge")


@dataclass(slots=True)
class Edge:
    """One edge with its data by name."""

    source: str
    target: str
    directed: bool
    place: Place
    data: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Graph:
    """What a file holds.

    Attributes:
        data: Data of the graph itself, by name.
        nodes: Data of each node, by the node's id.
        edges: The edges in order.
        lost: What GraphML has and a topology has not: what it is, and where.
    """

    data: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str, file: str, problems: Problems) -> Graph | None:
    """Return the graph of a file, or None after noting why there is none."""
    from defusedxml import DefusedXmlException
    from defusedxml.sax import parseString

    reader = _Reader(file, problems)
    try:
        parseString(text.encode(), reader, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except _NotGraphML:
        return None
    except DefusedXmlException:
        problems.add(
            "the file defines XML entities, which are not expanded",
            "xml-entities",
            reader.place(),
            expected="GraphML without entities",
            hint="remove the `<!ENTITY …>` declarations",
        )
        return None
    except SAXParseException as error:
        place = Place(file, max(error.getLineNumber() or 1, 1), (error.getColumnNumber() or 0) + 1)
        problems.add(f"the file is not XML: {error.getMessage()}", "xml", place, expected="GraphML")
        return None
    except (SAXException, ValueError, LookupError) as error:
        problems.add(f"the file cannot be parsed: {error}", "xml", reader.place(), expected="GraphML")
        return None
    return reader.graph


class _NotGraphML(Exception):
    """The document is another kind of XML; the reason has been noted."""


class _Reader(ContentHandler):
    """Takes the parser's calls, one for each element that starts or ends."""

    def __init__(self, file: str, problems: Problems) -> None:
        super().__init__()
        self.graph = Graph()
        self._file = file
        self._problems = problems
        self._locator: Any = None
        self._keys: dict[str, str] = {}
        self._defaults: dict[tuple[str, str], str] = {}
        self._key = ("", "")
        self._directed = False
        self._graphs = 0
        self._open: list[str] = []
        self._owners: list[dict[str, str]] = []
        self._datum: str = ""
        self._text: list[str] | None = None

    def place(self) -> Place:
        """Return where the parser is."""
        line = self._locator.getLineNumber() if self._locator is not None else None
        if not line:
            return Place(self._file)
        return Place(self._file, line, (self._locator.getColumnNumber() or 0) + 1)

    def setDocumentLocator(self, locator: Any) -> None:
        self._locator = locator

    def startElement(self, name: str, attrs: Any) -> None:
        name = name.rpartition(":")[2]
        attributes: dict[str, str] = dict(attrs.items())
        if not self._open and name != "graphml":
            self._problems.add(
                f"the root element is `{name[:40]}`, but `graphml` is expected",
                "format",
                self.place(),
                found=name[:40],
                expected="graphml",
            )
            raise _NotGraphML
        above = self._open[-1] if self._open else ""
        self._open.append(name)
        if name == "key":
            self._start_key(attributes)
        elif name in _OWNERS:
            getattr(self, f"_start_{name}")(attributes)
        elif name == "data" and above in _OWNERS:
            key: str = attributes.get("key", "")
            self._datum, self._text = self._keys.get(key, key), []
        elif name == "default" and above == "key":
            self._text = []
        elif name == "NodeLabel" and "node" in self._open:  # yEd keeps a node's name there
            self._datum, self._text = "label", []
        elif name == "hyperedge":
            self.graph.lost.append(("hyperedges", f"line {self.place().line}"))

    def characters(self, content: str) -> None:
        if self._text is not None:
            self._text.append(content)

    def endElement(self, name: str) -> None:
        local = self._open.pop()  # the name without its namespace
        if local in _OWNERS:
            data = self._owners.pop()
            for (of, key), value in self._defaults.items():
                if of in (local, "all"):
                    data.setdefault(key, value)
        elif local in ("data", "NodeLabel") and self._text is not None and self._owners:
            self._owners[-1].setdefault(self._datum, "".join(self._text).strip()[:_MOST_DATA])
            self._text = None
        elif local == "default" and self._text is not None:
            self._defaults[self._key] = "".join(self._text).strip()[:_MOST_DATA]
            self._text = None

    def _start_key(self, attributes: Mapping[str, str]) -> None:
        name = attributes.get("attr.name", attributes.get("id", ""))
        self._keys[attributes.get("id", "")] = name
        self._key = (attributes.get("for", "all"), name)

    def _start_graph(self, attributes: Mapping[str, str]) -> None:
        self._graphs += 1
        self._directed = attributes.get("edgedefault") == "directed"
        if self._graphs == 2:
            self.graph.lost.append(
                ("borders of graphs; all nodes and edges are taken", "more than one graph")
            )
        self._owners.append(self.graph.data if self._graphs == 1 else {})

    def _start_node(self, attributes: Mapping[str, str]) -> None:
        key = attributes.get("id", "")
        if key in self.graph.nodes or not key:
            what = f"the node `{key[:40]}` is already there" if key else "a node needs an `id`"
            self._problems.add(what, "duplicate-node" if key else "no-id", self.place(), found=key[:40])
        self.graph.nodes[key] = {}
        self._owners.append(self.graph.nodes[key])

    def _start_edge(self, attributes: Mapping[str, str]) -> None:
        stated = attributes.get("directed")
        directed = self._directed if stated is None else stated == "true"
        ends = [attributes.get(end, "") for end in ("source", "target")]
        if not all(ends):
            self._problems.add("an edge needs `source` and `target`", "no-ends", self.place())
        edge = Edge(ends[0], ends[1], directed, self.place())
        if all(ends):
            self.graph.edges.append(edge)
        self._owners.append(edge.data)
