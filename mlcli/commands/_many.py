"""Options that take several values at once, as in `--among a.jpg b.jpg`, which a shell makes of `--among *.jpg`."""

from collections.abc import Sequence
from typing import Any

import typer

from mlcli.commands._help import Command


def taking_many(*options: str) -> type[Command]:
    """The kind of command in which each of these options takes all words up to the next option."""

    class Parser(Command):
        def parse_args(self, context: Any, words: list[str]) -> list[str]:
            try:
                return super().parse_args(context, repeated(words, options))
            except typer.BadParameter as error:
                taken = taken_by(words, options)
                if error.param is None or error.param.param_type_name != "argument" or not taken:
                    raise
                name = error.param.metavar or error.param.name
                raise typer.BadParameter(
                    f"missing; {options[0]} has taken all words up to the next option ({' '.join(taken)}). Name it "
                    f"before {options[0]}",
                    ctx=context,
                    param_hint=name,
                ) from None

    return Parser


def taken_by(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """The words that an option takes where it takes several."""
    result = list(repeated(words, options))
    values = [after for word, after in zip(result, result[1:], strict=False) if word in options]
    return values if len(values) > 1 else []


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
