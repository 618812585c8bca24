"""Objectives as text: expressions over the addresses of a model, as in `conv4:12 + 0.5*conv5:7 - 100*diversity(conv4)`.

    sum     = ["-"] product {("+" | "-") product}
    product = factor {"*" factor}, of which at most one is not a number
    factor  = ["-"] (number | "(" sum ")" | penalty | "diversity(" layer ")" | unit | "negative(" unit ")" | layer)
    unit    = "logit:" class | layer ":" units ["@" position]

    conv4:12             a channel: its mean over all positions; of a vector, its value. A channel that ends with ReLU6
                         is read as with ReLU, since above 6 it is constant
    conv4:12@center      a neuron: its value at the center of the map; @2,5 in column 2, row 5 of the map
    negative(conv4:12)   the negative part of a channel: the mean of max(0, -x), x its value before the ReLU
    conv3                a whole layer: its mean square (DeepDream)
    conv1@address        the layer of this address, where an alias of the same name hides it
    logit:cat, logit:3, logit:n02129604
                         a class before the softmax: its label, a synonym, its WordNet id or its number. The longest
                         name of a class after the colon counts; quotes mark the end of a name
    conv4:0-15, conv4:3,9, conv4:all, logit:all
                         several units, with an objective for each of them
    tv, l1, l2, blur     penalties of the image itself
    diversity(conv4)     similarity of the images of a batch, as the cosine of their Gram matrices

A minus after a name needs a space before it, since `block1-0` is a name.
"""

import math
import re
from dataclasses import dataclass, replace

from mlcli.errors import UsageError, did_you_mean
from mlcli.methods.visualization.objectives import PENALTIES, Objective, Term
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.graph import Layer
from mlcli.models.structure.units import parse_numbers

NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NAME = re.compile(r"[A-Za-z_][\w.]*(-\d[\w.]*)*(@address\b)?")
# 12, 0-15, 3,9, all; but in 12-2*tv the 2 is a factor
UNITS = re.compile(r"all\b|\d+(-\d+(?!\s*[.*\d]))?(,\d+(-\d+(?!\s*[.*\d]))?)*")
# Text that is meant as the name of a class but names none: in quotes, or words
CLASS = re.compile(r"\"[^\"]+\"|'[^']+'|\w[\w'./,]*([ -]\w[\w'./,]*)*")
CLASS_END = r"(?<=\S)(?=\s*(?:[-+*)]|$))"  # where the name of a class may end
NUMBERS_OF_CLASSES = re.compile(UNITS.pattern + CLASS_END)
POSITION = re.compile(r"center|(\d+),(\d+)")


@dataclass(frozen=True)
class Weighted:
    """A factor and the terms that it multiplies: one, or one for each unit of a range."""

    factor: float
    each: tuple[Term, ...]


Value = float | list[Weighted]


def parse(text: str, model: Model) -> list[Objective]:
    """The objectives of an expression: one, or one for each unit of its range.

    Raises UsageError with the position in the text, and with the nearest names for an unknown layer or class.
    """
    return _Parser(text, model).parse()


def named_layers(text: str, model: Model) -> dict[str, Layer]:
    """The layers that an expression names, by these names. Raises UsageError as `parse` does."""
    parser = _Parser(text, model)
    parser.parse()
    return parser.layers


class _Parser:
    """Recursive descent. `at` is the current position in the text."""

    def __init__(self, text: str, model: Model):
        self.text, self.model, self.at = text, model, 0
        self.layers: dict[str, Layer] = {}

    def parse(self) -> list[Objective]:
        value = self.sum()
        if self.rest():
            raise self.error("+, -, * or the end is expected")
        if isinstance(value, float):
            raise self.error("nothing to maximize; name a unit such as conv4:12 or logit:3", at=0)
        ranges = sorted({len(w.each) for w in value if len(w.each) > 1})
        if len(ranges) > 1:
            raise self.error(f"ranges of lengths {' and '.join(map(str, ranges))}; they must be equally long", at=0)
        count = ranges[0] if ranges else 1
        return [Objective(tuple((w.factor, w.each[i % len(w.each)]) for w in value)) for i in range(count)]

    # -- grammar --

    def sum(self) -> Value:
        value = self.product()
        while sign := self.take("+") or self.take("-"):
            at = self.at
            other = self.product()
            if isinstance(value, float) or isinstance(other, float):
                raise self.error("a number alone; multiply it with *", at=at)
            value = value + [
                weighted if sign == "+" else replace(weighted, factor=-1.0 * weighted.factor) for weighted in other
            ]
        return value

    def product(self) -> Value:
        value = self.factor()
        while self.take("*"):
            at = self.at
            other = self.factor()
            if isinstance(value, float):
                value = _times(value, other)
            elif isinstance(other, float):
                value = _times(other, value)
            else:
                raise self.error("one side of * must be a number", at=at)
        return value

    def factor(self) -> Value:
        if self.take("-"):
            return _times(-1.0, self.factor())
        if self.take("("):
            value = self.sum()
            self.need(")")
            return value
        at = self.at
        if number := self.match(NUMBER):
            if float(number) == math.inf:
                raise self.error("this number is too large", at=at)
            return float(number)
        return [Weighted(1.0, self.terms())]

    def terms(self) -> tuple[Term, ...]:
        at = self.at
        name = self.match(NAME)
        if not name:
            raise self.error("a layer, logit:CLASS, a number or ( is expected")
        if name in PENALTIES:
            return (Term(name, name),)
        if name == "diversity" and self.take("("):
            at = self.at
            address = self.expect(NAME, "the name of a layer is expected")
            self.need(")")
            return (Term(f"diversity({address})", "diversity", self.layer(address, at)),)
        if name == "negative" and self.take("("):
            at = self.at
            inside = self.terms()
            if {term.kind for term in inside} != {"unit"}:
                raise self.error("a unit is expected, as in negative(conv4:12)", at=at)
            self.need(")")
            return tuple(replace(term, text=f"negative({term.text})", kind="negative") for term in inside)
        if name == "logit" and self.take(":"):
            return self.classes()
        layer = self.layer(name, at)
        units = self.units(name, layer) if self.take(":") else None
        position = self.position(layer) if self.take("@") else None
        if units is None:
            if position is not None:
                raise self.error(f"name the unit of this position, as in {name}:12@center", at=at)
            return (Term(name, "layer", layer),)
        suffix = "" if position is None else "@" + (",".join(map(str, position)) or "center")
        return tuple(Term(f"{name}:{unit}{suffix}", "unit", layer, unit, position) for unit in units)

    def units(self, name: str, layer: Layer) -> list[int]:
        at = self.at
        text = self.expect(UNITS, f"the number of a unit is expected, as in {name}:12, {name}:0-15, {name}:all")
        return self.numbers(text, _unit_count(layer), f"{name} has the units", at)

    def numbers(self, text: str, count: int, having: str, at: int) -> list[int]:
        try:
            return parse_numbers(text, count, having)
        except UsageError as error:
            raise self.error(str(error), at=at) from None

    def classes(self) -> tuple[Term, ...]:
        at, classes = self.at, self.model.classes
        text = self.class_name() or self.match(NUMBERS_OF_CLASSES) or self.match(CLASS)
        if not text:
            raise self.error("the name or number of a class is expected")
        if text not in classes and UNITS.fullmatch(text):
            indices = self.numbers(text, len(classes), f"{self.model.name} has the classes", at)
        else:
            try:
                indices = [self.model.class_index(_unquoted(text))]
            except UsageError as error:
                raise self.error(str(error), at=at) from None
        layer = features.layers(self.model)[-1]
        return tuple(Term(f"logit:{classes[index]}", "unit", layer, index) for index in indices)

    def class_name(self) -> str:
        """Take the longest text at the current position that names a class; empty if none does.

        Labels may contain characters that end a name elsewhere: `crane (n02012849)`, `maillot, tank suit`,
        `jack-o'-lantern`.
        """
        rest, names = self.rest(), self.model.names
        for end in reversed([found.start() for found in re.finditer(CLASS_END, rest)]):
            text = rest[:end]
            if text in names.labels or (not UNITS.fullmatch(text) and names.matches(_unquoted(text))):
                self.at += end
                return text
        return ""

    def position(self, layer: Layer) -> tuple[int, ...]:
        at = self.at
        text = self.expect(POSITION, "center or a position such as 2,5 (column, row) is expected")
        if len(layer.shape) < 3:
            raise self.error(f"{layer.address} is not a map and has no positions", at=at)
        return tuple(map(int, text.split(","))) if text[0].isdigit() else ()

    def layer(self, name: str, at: int) -> Layer:
        if name not in self.layers:
            try:
                self.layers[name] = features.resolve(self.model, name)
            except UsageError as error:
                near = did_you_mean(name, ["diversity", "logit", "negative", *PENALTIES])
                raise self.error(f"{name}: no layer{near}" if near else str(error), at=at) from None
            if not self.layers[name].shape:
                raise self.error(f"{name} is a single number", at=at)
        return self.layers[name]

    # -- text --

    def rest(self) -> str:
        """Skip spaces and return the remaining text."""
        self.at += len(self.text[self.at :]) - len(self.text[self.at :].lstrip())
        return self.text[self.at :]

    def take(self, sign: str) -> str:
        """Take the sign if it is next; otherwise return an empty string."""
        if not self.rest().startswith(sign):
            return ""
        self.at += len(sign)
        return sign

    def match(self, pattern: re.Pattern[str]) -> str:
        """Take the text that matches the pattern; empty if none does."""
        found = pattern.match(self.rest())
        self.at += found.end() if found else 0
        return found[0] if found else ""

    def expect(self, pattern: re.Pattern[str], problem: str) -> str:
        """Take the text that matches the pattern. Raises UsageError if none does."""
        text = self.match(pattern)
        if not text:
            raise self.error(problem)
        return text

    def need(self, sign: str) -> None:
        """Take the sign. Raises UsageError if it is not next."""
        if not self.take(sign):
            raise self.error(f"{sign} is expected")

    def error(self, problem: str, at: int | None = None) -> UsageError:
        """An error at this position, by default the current one."""
        at = self.at if at is None else at
        excerpt = f"at {self.text[at : at + 20]!r}" if self.text[at:].strip() else "at its end"
        return UsageError(f"objective {self.text!r}, {excerpt} (character {at + 1}): {problem}")


def _unquoted(text: str) -> str:
    """The text without the quotes around it, if it has any."""
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _times(factor: float, value: Value) -> Value:
    """The value multiplied by a number."""
    if isinstance(value, float):
        return factor * value
    return [replace(weighted, factor=factor * weighted.factor) for weighted in value]


def _unit_count(layer: Layer) -> int:
    """Number of units of a layer: the channels of a map, in whichever dimension, or the entries of a vector."""
    channels_first = len(layer.shape) == 1 or (len(layer.shape) == 3 and layer.field.planes)
    return layer.shape[0] if channels_first else layer.shape[-1]
