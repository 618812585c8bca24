import pytest

from mlcli.reporting import captions

LONG = "n01855032_red-breasted_merganser_of_the_north"


@pytest.mark.parametrize("text", ["short", LONG, "", "w" * 5000])
def test_long_labels_lose_some_of_their_middle_and_keep_their_end(text):
    shown = captions.shortened(text, 80)
    drawn = captions.font(80).getlength(shown)
    if "…" not in shown:
        assert shown == text and drawn < 80
    else:
        first, last = shown.split("…")
        assert text.startswith(first) and text.endswith(last) and len(last) > len(first)
        assert 60 < drawn <= 80


def test_names_have_two_lines_at_most_and_keep_their_end():
    assert captions.wrapped("tench", 96) == "tench"
    assert captions.wrapped("n02526121_tench", 96) == "n02526121_\ntench"
    first, second = captions.wrapped(LONG, 96).split("\n")
    assert first.endswith("…") and LONG.startswith(first[:-1]) and LONG.endswith(second)
    assert len(second) >= 10 and max(map(captions.font(96).getlength, (first, second))) <= 96
    assert "".join(captions.wrapped("abcdefghijklmnopqrst", 96).split("\n")) == "abcdefghijklmnopqrst"


@pytest.mark.parametrize("width", [1, 40, 300])
def test_any_name_fits_any_width(width):
    for name in ("", "a", "w" * 3000, "_" * 50, "a b" * 30, "\u0436\u0301" * 40):
        for line in captions.wrapped(name, width).split("\n"):
            assert captions.font(width).getlength(line) <= width or width == 1


def test_the_font_grows_with_the_tiles():
    assert captions.font(16).size == captions.font().size == 12 and captions.font(1200).size == 100
    assert captions.line_height(1200) > 100


def test_the_font_has_more_than_ascii():
    missing = captions.font().getmask("\U000f0000").getbbox(), bytes(captions.font().getmask("\U000f0000"))
    for letter in "\u00e9\u00b1\u2026\u2212\u0416\u03bb":
        mask = captions.font().getmask(letter)
        assert (mask.getbbox(), bytes(mask)) != missing, letter


def test_a_paragraph_keeps_to_its_width():
    lines = captions.paragraph("one two three four five six " + "x" * 40, 60)
    assert " ".join(lines).split() == ["one", "two", "three", "four", "five", "six", "x" * 40]
    assert all(captions.font().getlength(line) <= 60 for line in lines[:-1])
