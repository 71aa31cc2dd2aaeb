"""Test flow sizes: published distributions, tables and what is refused."""

from __future__ import annotations

from random import Random

import pytest

from orchestrator.traffic import PUBLISHED, SizesInvalid, fixed, from_table


@pytest.mark.parametrize(
    ("name", "mean", "median"), [("web-search", 1.66e6, 72e3), ("data-mining", 7.4e6, 1460)]
)
def test_published_distributions_have_the_means_that_papers_give(
    name: str, mean: float, median: float
) -> None:
    sizes = PUBLISHED[name]
    assert sizes.mean == pytest.approx(mean, rel=0.05)
    assert sizes.quantile(0.5) == pytest.approx(median, rel=0.02)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_what_is_drawn_has_the_quantiles_of_the_distribution(name: str) -> None:
    sizes, stream = PUBLISHED[name], Random(7)
    drawn = sorted(sizes.draw(stream) for _ in range(20_000))
    for share in (0.3, 0.6, 0.8, 0.9):
        # The share of drawn flows up to a quantile, with four standard deviations of sampling.
        found = sum(size <= sizes.quantile(share) + 0.5 for size in drawn) / len(drawn)
        assert found == pytest.approx(max(share, _share_at(name, sizes.quantile(share))), abs=0.014)


def _share_at(name: str, size: float) -> float:
    """The largest share with this size: a CDF may rise at one size."""
    return max((share for at, share in PUBLISHED[name].points if at == size), default=0.0)


def test_fixed_sizes_are_all_the_same() -> None:
    sizes = fixed(64_000)
    assert sizes.mean == 64_000
    assert {sizes.draw(Random(seed)) for seed in range(20)} == {64_000}


def test_a_table_is_read_with_and_without_a_head() -> None:
    table = from_table("size,cdf\n# a comment\n1000,0.5\n2000,1\n")
    assert table == from_table("1000,0.5\n2000,1\n")
    assert table.mean == 1250
    assert (table.quantile(0.2), table.quantile(0.75)) == (1000, 1500)


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("100,0.5\n50,1\n", "the size 50 comes after 100", 2),
        ("100,0.5\n200,0.4\n300,1\n", "the share 0.4 comes after 0.5", 2),
        ("100,0.5\n200,0.9\n", "the last share is 0.9", 0),
        ("", "the last share is missing", 0),
        ("100,1.5\n", "the share 1.5 is out of bounds", 1),
        ("0,1\n", "the size 0 is out of bounds", 1),
        ("100,0.5\nmany,1\n", "`many,1` is not a size and a share", 2),
        ("100,nan\n", "the share nan is out of bounds", 1),
    ],
)
def test_a_table_that_is_no_cdf_is_refused_with_its_line(text: str, reason: str, line: int) -> None:
    with pytest.raises(SizesInvalid, match=reason) as refused:
        from_table(text)
    assert refused.value.line == line
