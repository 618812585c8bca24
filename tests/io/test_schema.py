"""The checks that files of our own go through."""

import os

import pytest

from mlcli.io import schema
from mlcli.io.schema import Invalid, boolean, choice, integer, items, mapping, number, optional, record, text

WHOLE = record(
    {"name": text(5), "sides": items(integer(1, 9), 2, 2)}, {"factor": optional(number(0, 1)), "on": boolean}
)


def test_what_fits_comes_back_as_it_is():
    value = {"name": "a", "sides": [1, 9], "factor": None, "on": False, "other": object()}
    assert WHOLE(value) is value
    assert record({})({"a": 1}) == {"a": 1} and items(boolean)(()) == () and choice(1, "1")("1") == "1"


@pytest.mark.parametrize(
    "value, message",
    [
        ([], "should be an object, is a list"),
        ({"name": "a"}, "has no sides"),
        ({"name": "abcdef", "sides": [1, 1]}, "name should be a text of at most 5 characters, is 'abcdef'"),
        ({"name": 5, "sides": [1, 1]}, "name should be a text of at most 5 characters, is 5"),
        ({"name": "", "sides": [1]}, "sides should be a list of 2 to 2 values, is one of 1"),
        ({"name": "", "sides": "ab"}, "sides should be a list of 2 to 2 values, is 'ab'"),
        ({"name": "", "sides": [1, 10]}, "sides.1 should be a whole number from 1 to 9, is 10"),
        ({"name": "", "sides": [1, True]}, "sides.1 should be a whole number from 1 to 9, is True"),
        ({"name": "", "sides": [1, 2.0]}, "sides.1 should be a whole number from 1 to 9, is 2.0"),
        ({"name": "", "sides": [1, 1], "factor": float("nan")}, "factor should be a number from 0 to 1, is nan"),
        ({"name": "", "sides": [1, 1], "factor": "x" * 99}, "factor should be a number from 0 to 1, is 'xxxx"),
        ({"name": "", "sides": [1, 1], "on": 1}, "on should be true or false, is 1"),
    ],
)
def test_what_is_wrong_and_where_is_said_in_a_line(value, message):
    with pytest.raises(Invalid) as raised:
        WHOLE(value)
    assert str(raised.value).startswith(message) and len(str(raised.value)) < 120


def test_a_choice_is_of_the_same_type():
    for value in (True, 1.0, "1", [], {}):
        with pytest.raises(Invalid, match="should be one of 1, 3, is"):
            choice(1, 3)(value)


def test_numbers_are_finite_and_objects_may_be_closed():
    for value in (float("inf"), float("-inf"), 10**400, None):
        with pytest.raises(Invalid, match="should be a number"):
            number()(value)
    with pytest.raises(Invalid, match="has the unknown 'weights'"):
        record({}, {"size": number()}, closed=True)({"size": 1, "weights": "DEFAULT"})
    with pytest.raises(Invalid, match=r"^a\.b should be true or false"):
        mapping(mapping(boolean))({"a": {"b": 1}})


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b"[" * 100_000, "nests its parts too deep"),
        (b"9" * 5000, "is not JSON"),
    ],
)
def test_what_is_no_json_is_said(content, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(Invalid, match=message):
        schema.read_json(tmp_path / "a.json")


def test_a_pipe_instead_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(Invalid, match="no regular file"):
        schema.read_json(tmp_path / "config.json")
    with pytest.raises(OSError):
        schema.read_json(tmp_path)
