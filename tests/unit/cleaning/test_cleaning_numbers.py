"""Texts that differ in their numbers say different things, however alike they are."""

import pytest
from cleaning_rows import pairs, sentences

from xalign_dist.cleaning import Deduplicator
from xalign_dist.config import CleaningConfig

BOTH = CleaningConfig()
LONG = "The committee meets again to discuss " + " and ".join(
    f"the {word} matter of the council" for word in ("first", "second", "third", "fourth", "fifth", "sixth")
)


@pytest.mark.parametrize("text", ["See page {}.", LONG + " on page {}.", "{} " + LONG])
def test_other_numbers_are_no_copies(text: str) -> None:
    chunk = Deduplicator(BOTH).apply(sentences(text.format(2), text.format(3), text.format(23)))
    assert chunk.kept.num_rows == 3


def test_the_same_numbers_are_still_near_copies() -> None:
    one = LONG + " on page 2 of 30."
    chunk = Deduplicator(BOTH).apply(sentences(one, one + "!", one.replace("page 2 of 30", "page 23 of 0")))
    assert chunk.kept["id"].to_pylist() == ["x0", "x2"]
    assert chunk.rejects["detail"].to_pylist() == ["copy of x0"]


def test_a_number_on_either_side_of_a_pair_counts() -> None:
    rows = ((LONG + " 5", LONG + " 6"), (LONG + " 5", LONG + " 7"), (LONG + " 4", LONG + " 6"))
    assert Deduplicator(BOTH).apply(pairs(*rows)).kept.num_rows == 3
