"""Check that no text uses the words that `scripts/words.py` lists."""

import pytest

from scripts import words


def test_no_file_uses_a_listed_word() -> None:
    found = [
        str(each)
        for file in words.tracked()
        for each in words.findings(file, (words.ROOT / file).read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "the agent's desk",
        "def take_seat() -> None:",
        "class SeatTaken:",
        "`nm up` mends it",
        "OPEN_DOOR = 1",
        "Doors",
    ],
)
def test_a_listed_word_is_found_in_texts_and_identifiers(line: str) -> None:
    assert [each.line for each in words.findings("page.md", line)] == [1]


@pytest.mark.parametrize(
    "line",
    [
        "headroom",
        "a mailbox",
        "outdoor",
        "SO_NETNS_COOKIE",
        "link_socket",
        "small letters",
        "amended",
        "housed",
    ],
)
def test_parts_of_other_words_and_allowed_uses_are_not_found(line: str) -> None:
    assert list(words.findings("page.md", line)) == []


def test_a_finding_names_the_term_to_use() -> None:
    (found,) = words.findings("docs/seat.md", "")
    assert str(found) == "docs/seat.md:0: `seat`: use external node"
