"""Feed changed and random files to all importers: an error of ours, or a file that loads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import importers, topology
from orchestrator.errors import ImportInvalid, UsageError
from orchestrator.importers.draft import Imported, comment, lab_name, label_key, label_value, node_name
from orchestrator.topology.language import LAB_NAME, NODE_NAME
from orchestrator.topology.writing import word
from tests.importers import samples

READERS: dict[str, tuple[Callable[[Path], Imported], str]] = {
    "graphml": (importers.from_graphml, samples.GRAPHML),
    "csv": (importers.from_csv, samples.CSV),
    "containerlab": (importers.from_containerlab, samples.CONTAINERLAB),
    "netlab": (importers.from_netlab, samples.NETLAB),
    "compose": (importers.from_compose, samples.COMPOSE),
}


def changed(text: str) -> st.SearchStrategy[bytes]:
    """A file with a few places replaced by parts of itself or by other bytes."""
    raw = text.encode()
    place = st.integers(0, len(raw))
    part = st.tuples(place, st.integers(0, 30)).map(lambda cut: raw[cut[0] : cut[0] + cut[1]])
    other = st.one_of(
        part, st.binary(max_size=4), st.sampled_from([b"{", b"]", b"-1", b'"', b"&a", b"\0", b"${"])
    )

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        made = raw
        for start, length, new in changes:
            made = made[:start] + new + made[start + length :]
        return made

    return st.lists(st.tuples(place, st.integers(0, 30), other), min_size=1, max_size=4).map(apply)


@pytest.mark.parametrize("format", READERS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_a_file_is_an_error_or_a_topology(format: str, data: st.DataObject) -> None:
    read, text = READERS[format]
    raw = data.draw(changed(text))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(raw)
        try:
            imported = read(path)
        except (ImportInvalid, UsageError) as error:
            assert error.render()
            return
    topology.loads(imported.text)


@given(st.text())
def test_any_text_becomes_valid_names(text: str) -> None:
    import re

    assert re.fullmatch(f"(?:{NODE_NAME})?", node_name(text))
    assert re.fullmatch(LAB_NAME, lab_name(text))
    labels = f"{{{word(label_key(text) or 'a')}: {word(label_value(text) or 'b')}}}"
    read = topology.loads(f"n_nodes: 1\nnodes:\n  1: {{labels: {labels}}}  # {comment(text)}\n")
    assert read.nodes[1].labels == {label_key(text) or "a": label_value(text) or "b"}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_written_so_that_it_is_read_back(text: str) -> None:
    from orchestrator.source import Problems, parse_yaml

    value = parse_yaml(f"a: {word(text)}\n", "f", Problems("x"))
    assert value is not None and value.plain() == {"a": text}


def test_thousands_of_equal_names_are_told_apart(tmp_path: Path) -> None:
    nodes = "".join(f'<node id="{i}"><data key="label">PoP</data></node>' for i in range(3000))
    path = tmp_path / "g.graphml"
    path.write_text(f"<graphml><graph>{nodes}</graph></graphml>")
    names = [node.name for node in topology.loads(importers.from_graphml(path).text).nodes.values()]
    assert len(set(names)) == 3000 and names[:2] == ["PoP", "PoP-2"]


def test_a_file_with_too_many_nodes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "links.csv"
    path.write_text("a,b\n" + "".join(f"x,{i}y\n" for i in range(10_001)))
    with pytest.raises(ImportInvalid, match="more than 10000 nodes"):
        importers.from_csv(path)


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize(
    ("content", "id"),
    [(None, "file.missing"), (b"\xff\xfe", "file.encoding"), (b"a" * (8 * 2**20 + 1), "file.too-large")],
)
def test_files_that_cannot_be_read(format: str, content: bytes | None, id: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImportInvalid) as caught:
        READERS[format][0](path)
    assert [problem.id for problem in caught.value.problems] == [id]
