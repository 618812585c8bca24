"""Messages that suggest what may have been meant."""

import pytest

from mlcli.errors import did_you_mean


@pytest.mark.parametrize(
    "name, known, expected",
    [
        ("trian", ["train", "stylize"], "; did you mean train?"),
        ("CAT", ["crate", "Egyptian cat", "tiger cat", "catamaran"], "; did you mean Egyptian cat or tiger cat?"),
        ("cat", ["a cat", "b cat", "c cat", "d cat"], "; did you mean a cat or b cat or c cat?"),
        ("xyz", ["train"], ""),
        ("x", [], ""),
    ],
)
def test_names_that_have_the_word_come_before_those_that_are_similar(name, known, expected):
    assert did_you_mean(name, known) == expected
