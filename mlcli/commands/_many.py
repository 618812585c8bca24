"""Options that take several values at once, as in `--among a.jpg b.jpg`, which a shell makes of `--among *.jpg`."""

from collections.abc import Sequence
from typing import Any

from mlcli.commands._help import Command


def taking_many(*options: str) -> type[Command]:
    """The kind of command in which each of these options takes all words up to the next option."""

    class Parser(Command):
        def parse_args(self, context: Any, words: list[str]) -> list[str]:
            return super().parse_args(context, repeated(words, options))

    return Parser


def repeated(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """`--among a b` as `--among a --among b`, which every parser takes. A single - is a value; -- ends it all."""
    result: list[str] = []
    current, first = None, False
    for index, word in enumerate(words):
        if word == "--":
            return [*result, *words[index:]]
        if word.startswith("-") and word != "-":
            current, first = (word if word in options else None), True
            result.append(word)
        elif current is None or first:
            result.append(word)
            first = False
        else:
            result += [current, word]
    return result
