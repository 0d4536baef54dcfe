"""A name that a user gives: taken, or answered with the nearest valid one."""

from __future__ import annotations

import pytest

from benchmarks.names import choose, nearest, printable


def test_a_valid_name_is_returned():
    assert choose("scale", "quick", ("smoke", "quick")) == "quick"


def test_a_misspelt_name_is_answered_with_the_nearest_and_all():
    with pytest.raises(ValueError) as error:
        choose("scale", "quik", (name for name in ("smoke", "quick")))
    expected = "scale 'quik' does not exist; did you mean 'quick'? valid: smoke, quick"
    assert str(error.value) == expected


def test_a_name_like_no_other_is_answered_without_a_guess():
    assert nearest("xyz", ("smoke", "quick")) == ""
    with pytest.raises(ValueError, match=r"^scale 'xyz' does not exist; valid: smoke, quick$"):
        choose("scale", "xyz", ("smoke", "quick"))
    with pytest.raises(ValueError, match="scale 3 does not exist; valid: smoke"):
        choose("scale", 3, ("smoke",))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PredRNN++ w/o c", "PredRNN++ w/o c"),
        (" two\nlines\t", "two lines"),
        ("\x1b[31m\x00", "U+001B[31mU+0000"),
        ("世界 \u202e \udcff", "世界 U+202E U+DCFF"),
    ],
)
def test_a_name_is_printed_in_one_line_of_characters_that_show(text, shown):
    assert printable(text) == shown
