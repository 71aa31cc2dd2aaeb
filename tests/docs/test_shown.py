"""Test the comparison of shown and printed output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Block, as_shown, blocks, commands


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("ready after 1.3 s", "… starting\nready after 2 s\n"),
        (
            "pass  hello-da46b2  in results/2026-01-02-030405-hello-da46b2",
            "pass  hello-000001  in results/2027-09-02-111111-hello-000001",
        ),
        ("╭───┬───╮\n│ a │ b │\n├───┼───┤\n│ 1 │ x │\n╰───┴───╯", "a  b\n1  x"),
        ("first\n…\nlast", "first\nof\nmany\nlast"),
        ("from … to 2", "from 1 to 2"),
        ("│ 90 868 376 │ 2271.7 │ 53aa51172d14 │", "90 868 376  17.1  aaaaaaaaaaa1"),
    ],
)
def test_what_differs_from_run_to_run_is_alike(shown: str, printed: str) -> None:
    assert as_shown(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("10.0.0.3", "10.0.0.4"),
        ("4 nodes", "3 nodes"),
        ("a  b\n1  x", "a  c\n1  x"),
        ("first", "first\nsecond"),
        ("first\nsecond", "first"),
        ("lab ring", "lab star"),
    ],
)
def test_what_a_page_says_wrongly_is_noticed(shown: str, printed: str) -> None:
    assert not as_shown(shown, printed)


def test_a_block_is_typed_command_by_command() -> None:
    shell = Block("bash", "# a remark\nexport A=1\n\nfor i in 1 2; do\n  echo $i\ndone\necho a \\\n  b\n")
    assert [each.text for each in commands(shell)] == [
        "export A=1\n",
        "for i in 1 2; do\n  echo $i\ndone\n",
        "echo a \\\n  b\n",
    ]
    (first, second) = commands(Block("console", "$ one\nshown\n$ two\n"))
    assert (first.text, first.shown, second.text, second.shown) == ("one", "shown", "two", None)


def test_comments_above_a_block_say_how_to_take_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n<!-- not run: needs Docker -->\n```bash\na\n```\n"
        "<!-- exits with 2 -->\n```console\n$ b\n```\n"
        '```yaml title="x.yaml"\nname: x\n```\n'
    )
    docker, wrong, file = blocks(page)
    assert (docker.reason, docker.body, docker.line) == ("needs Docker", "a\n", 4)
    assert (wrong.code, wrong.reason) == (2, "")
    assert (file.title, file.language) == ("x.yaml", "yaml")
