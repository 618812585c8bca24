"""What a file of our own may hold: small checks, put together, that say where a value is not what it should be.

    CONFIG = record({"command": text(), "options": mapping()}, {"part": boolean})
    config = read_json(file, CONFIG)

A check takes a value as JSON has it and returns it; Invalid says what is wrong, and in which part of the whole. Files
lie where anybody may have written them: none of them is trusted to have the parts, kinds and sizes that we would write.
"""

import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Check = Callable[[Any], Any]
LARGEST = 512 << 20  # bytes of a JSON document


class Invalid(ValueError):
    """A value that is not what it should be. parts: the way to it from the whole."""

    def __init__(self, problem: str, parts: tuple[str, ...] = ()):
        self.problem, self.parts = problem, parts
        super().__init__(f"{'.'.join(parts)} {problem}" if parts else problem)

    def inside(self, part: object) -> "Invalid":
        return Invalid(self.problem, (str(part)[:60], *self.parts))


def told(value: object) -> str:
    """A value in a message, shortened."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", tuple: "a list"}
    if type(value) in kinds:
        return kinds[type(value)]
    shown = "null" if value is None else repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def anything(value: Any) -> Any:
    return value


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"should be true or false, is {told(value)}")
    return value


def integer(least: int, most: int) -> Check:
    """A whole number within these bounds."""

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise Invalid(f"should be a whole number from {least} to {most}, is {told(value)}")
        return value

    return check


def number(least: float = -math.inf, most: float = math.inf) -> Check:
    """A finite number within these bounds."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not least <= value <= most or abs(value) > 1.7e308:
            bounds = "" if math.isinf(least) and math.isinf(most) else f" from {least:g} to {most:g}"
            raise Invalid(f"should be a number{bounds}, is {told(value)}")
        return value

    return check


def text(most: int = 10_000) -> Check:
    """A string of at most so many characters."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise Invalid(f"should be a text of at most {most} characters, is {told(value)}")
        return value

    return check


def choice(*values: object) -> Check:
    """One of these values, and of their type."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(other) and value == other for other in values):
            raise Invalid(f"should be one of {', '.join(map(told, values))}, is {told(value)}")
        return value

    return check


def optional(check: Check) -> Check:
    """None, or what the check takes."""
    return lambda value: None if value is None else check(value)


def _check_part(check: Check, item: Any, part: object) -> None:
    """Check one part of a whole; what is wrong in it is said with the way to it."""
    try:
        check(item)
    except Invalid as problem:
        raise problem.inside(part) from None


def items(check: Check, least: int = 0, most: int = 10_000_000) -> Check:
    """A list of so many values that the check takes."""

    def whole(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            shown = f"one of {len(value)}" if isinstance(value, (list, tuple)) else told(value)
            raise Invalid(f"should be a list of {least} to {most} values, is {shown}")
        for index, item in enumerate(value):
            _check_part(check, item, index)
        return value

    return whole


def one_or_several(check: Check) -> Check:
    """A value that `check` takes, or a list of such values."""
    several = items(check, least=1)

    def whole(value: Any) -> Any:
        return several(value) if isinstance(value, list) else check(value)

    return whole


def mapping(check: Check = anything) -> Check:
    """An object whose values the check takes, whatever their names."""

    def whole(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Invalid(f"should be an object, is {told(value)}")
        for name, item in value.items():
            _check_part(check, item, name)
        return value

    return whole


OBJECT = mapping()


def record(needed: Mapping[str, Check], more: Mapping[str, Check] | None = None, *, closed: bool = False) -> Check:
    """An object with the `needed` values, and perhaps those of `more`; closed: and with no others."""
    checks = {**needed, **(more or {})}

    def whole(value: Any) -> Any:
        OBJECT(value)
        for name in needed:
            if name not in value:
                raise Invalid(f"has no {name}")
        for name, item in value.items():
            if name in checks:
                _check_part(checks[name], item, name)
            elif closed:
                raise Invalid(f"has the unknown {told(name)}")
        return value

    return whole


def loads(content: str | bytes, check: Check = anything) -> Any:
    """The value of a JSON document. Raises Invalid where it is none, or not what the check takes."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise Invalid("nests its parts too deep") from None
    except ValueError as error:  # of JSON, of UTF-8, and of numbers of thousands of digits
        raise Invalid(f"is not JSON: {error}") from None
    return check(value)


def read_json(file: str | Path, check: Check = anything) -> Any:
    """The value of a JSON file. Raises Invalid as `loads`, and OSError where it cannot be read."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place would be waited for
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid("is no regular file")
        if status.st_size > LARGEST:
            raise Invalid(f"is larger than {LARGEST >> 20} MiB")
        return loads(stream.read(), check)
