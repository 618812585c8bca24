"""Counts in messages: "1 image", "2 images"."""

import ast
import re
from pathlib import Path

import pytest

import mlcli
from mlcli.counting import counted, joined

PACKAGE = Path(mlcli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NO_COUNTS = {"name", "image.format", "number", "most"}  # texts, the number of a line, a limit


@pytest.mark.parametrize(
    "number, noun, words",
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2, "more kind", "2 more kinds"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (1, "identity", "1 identity"),
        (1200, "identity", "1,200 identities"),
    ],
)
def test_a_number_of_things(number, noun, words):
    assert counted(number, noun) == words


def test_words_of_a_list():
    assert [joined("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def trees() -> list[tuple[Path, ast.AST]]:
    return [(file, ast.parse(file.read_text("utf-8"))) for file in FILES]


def plurals() -> set[str]:
    """The plural of each noun that is counted anywhere, but for pixels: an image has more than one."""
    calls = (node for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {counted(2, call.args[1].value).split()[-1] for call in calls if ast.unparse(call.func) == "counted"} - {
        "pixels"
    }


def test_no_message_has_a_number_before_a_plural():
    """`{count} images` would say "1 images"; a constant, and a mean with its decimals, may stand there."""
    nouns = "|".join(plurals())
    wrong = []
    for file, tree in trees():
        for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
            for value, after in zip(text.values, text.values[1:], strict=False):
                if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                    continue
                shown = ast.unparse(value.value)
                mean = value.format_spec is not None and ast.unparse(value.format_spec).endswith("f'")
                if mean or shown in NO_COUNTS or re.search(r"\b[A-Z]{2,}|^counted\(", shown):
                    continue
                if re.match(rf" (?:{nouns})\b", after.value):
                    wrong.append(f"{file.name}:{value.lineno}: {{{shown}}}{after.value[:20]}")
    assert len(nouns) > 100
    assert not wrong, "\n".join(wrong)
