"""Check that no modules of a Rust crate import each other."""

from pathlib import Path

import pytest

from scripts import rust_cycles


@pytest.mark.parametrize("source", sorted(rust_cycles.DATAPLANE.glob("*/src")), ids=lambda it: it.parent.name)
def test_a_crate_has_no_cycle(source: Path) -> None:
    assert rust_cycles.cycles(rust_cycles.read_crate(source)) == []


def cycles(folder: Path, **files: str) -> list[str]:
    """Return the cycles of a crate with these files, `_` standing for `/`, as texts."""
    for name, text in files.items():
        file = folder / f"{name.replace('_', '/')}.rs"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    found = rust_cycles.cycles(rust_cycles.read_crate(folder))
    return [" ".join("/".join(path) or "root" for path in cycle) for cycle in found]


def test_a_cycle_through_uses_and_paths_is_found(tmp_path: Path) -> None:
    found = cycles(
        tmp_path,
        lib="mod a;\nmod b;\nmod c;\n",
        a="use crate::b::{B, Other as Name};\npub struct A;\n",
        b="pub struct B;\npub struct Other;\nfn f() { super::c::g() }\n",
        c="use super::a::A;\npub fn g() {}\n",
    )
    assert [set(each.split()) for each in found] == [{"a", "b", "c"}]


def test_a_parent_and_a_child_that_use_each_other_are_a_cycle(tmp_path: Path) -> None:
    parent = "mod child;\npub struct Table;\nfn f() { child::g() }\n"
    assert cycles(tmp_path, lib="mod a;\n", a_mod=parent, a_child="use super::Table;\npub fn g() {}\n")


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("mod child;\npub use child::Run;\npub fn f() {}\n", "use super::f;\npub struct Run;\n"),
        ("mod child;\npub struct S;\nfn f() { child::g() }\n", "use super::S;\nimpl S {}\npub fn g() {}\n"),
        (
            "mod child;\nfn f() { child::g() }\n",
            "pub fn g() {}\n#[cfg(test)]\nmod tests { use super::super::f; }\n",
        ),
        ("mod child;\npub fn f() {}\n// child::g()\n", 'use super::f;\nconst T: &str = "child::g";\n'),
    ],
    ids=["re-export", "impl block", "tests", "comments and texts"],
)
def test_what_is_no_cycle(tmp_path: Path, parent: str, child: str) -> None:
    assert cycles(tmp_path, lib="mod a;\n", a_mod=parent, a_child=child) == []


def test_a_re_export_is_followed_to_the_definition(tmp_path: Path) -> None:
    found = cycles(
        tmp_path,
        lib="mod a;\nmod b;\npub use b::B;\n",
        a="use crate::B;\npub struct A;\n",
        b="use crate::a::A;\npub struct B;\n",
    )
    assert [set(each.split()) for each in found] == [{"a", "b"}]
