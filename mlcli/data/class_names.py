"""Names of classes: a label, a WordNet id, a synonym or a number can stand for a class.

Classes of ImageNet are synsets of WordNet, each with an id (n01440764), one name or more (tench, Tinca tinca) and a
definition; timm's tables hold those of all 21,844. Names compare after Unicode normalization (NFC), since macOS writes
é in folder names as two characters.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from mlcli.counting import counted
from mlcli.data import path_lists
from mlcli.errors import DataError

WNID = re.compile(r"n\d{8}")


def normalized(name: str) -> str:
    """The name in the form in which labels compare."""
    return unicodedata.normalize("NFC", name)


def loosely(name: str) -> str:
    """The form in which synonyms compare: lower case, with spaces in place of underscores."""
    return " ".join(normalized(name).replace("_", " ").casefold().split())


@cache
def _tables() -> Any:
    """timm's tables of WordNet; loading them takes a second, so nothing else here touches them."""
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet22k")


def synonyms(wnid: str) -> tuple[str, ...]:
    """The names of a synset, the most common first; empty for an unknown id."""
    try:
        return tuple(_tables().label_name_to_description(wnid).split(", "))
    except KeyError:
        return ()


def definition(wnid: str) -> str:
    """The name and the definition of a synset: `crane: large long-necked wading bird of marshes …`."""
    return _tables().label_name_to_description(wnid, detailed=True)


@cache
def imagenet(subset: str = "imagenet-1k") -> tuple[str, ...]:
    """The WordNet ids of ImageNet's classes in their order. subset: a name that timm's ImageNetInfo takes."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_names())


@dataclass(frozen=True)
class ClassNames:
    """The classes of a model in their order.

    labels: no two are equal.  wnids: the WordNet id of each; empty where classes are no synsets.
    """

    labels: tuple[str, ...]
    wnids: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str]) -> "ClassNames":
        """The classes of these names: synsets where each of them is the id of one, as in ImageNet's own folders."""
        names = tuple(map(str, names))
        if not (names and all(map(WNID.fullmatch, names)) and all(map(synonyms, names))):
            return cls(names)
        first = [synonyms(wnid)[0] for wnid in names]
        count = Counter(first)
        labels = (name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(first, names, strict=True))
        return cls(tuple(labels), names)

    def matches(self, name: str) -> list[int]:
        """The numbers of the classes that a name stands for: none, one, or several, as crane is a bird and a machine.

        A label is taken before a WordNet id, an id before a synonym, and a synonym before a number.
        """
        name = normalized(name)
        if found := self._by_label.get(name) or self._by_synonym.get(loosely(name)):
            return found
        if name.isascii() and name.isdigit() and int(name) < len(self.labels):
            return [int(name)]
        return []

    @cached_property
    def _by_label(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for names in (self.labels, self.wnids):
            for index, name in enumerate(names):
                if index not in found[normalized(name)]:
                    found[normalized(name)].append(index)
        return dict(found)

    @cached_property
    def _by_synonym(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        every = [(label,) for label in self.labels] if not self.wnids else map(synonyms, self.wnids)
        for index, names in enumerate(every):
            # All names of a synset in a row are how ImageNet's own lists write a class: "maillot, tank suit"
            for name in dict.fromkeys(map(loosely, (*names, ", ".join(names)))):
                found[name].append(index)
        return dict(found)

    def ambiguity(self, name: str, found: Sequence[int]) -> str:
        """What to say of a name that stands for several classes."""
        several = "; ".join(f"{self.wnids[i]} ({definition(self.wnids[i])})" if self.wnids else str(i) for i in found)
        return f"{name}: stands for {counted(len(found), 'class')}, name one by its id: {several}"


def read_class_file(file: str | Path) -> list[str]:
    """The names of classes in a file: one a line, or a JSON list, or a JSON map from number to name or name to number.

    A value of a JSON map may be a list, as in ImageNet's class index (["n01440764", "tench"]), whose first is taken; of
    lines that begin with a WordNet id each, as in its `synset_words.txt`, the ids are. Names that occur several times
    get their number behind them. Raises DataError that names the file.
    """
    try:
        text = path_lists.decoded(Path(file).read_bytes(), str(file))
        text.encode()  # bytes that are neither UTF-8 nor UTF-16 cannot be
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a list of classes ({getattr(error, 'strerror', error)})") from None
    try:
        names = _names(json.loads(text))
    except json.JSONDecodeError:
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if all(WNID.fullmatch(line.split()[0]) for line in names):
            names = [line.split()[0] for line in names]
    if names is None:
        raise DataError(
            f"{file}: its JSON is neither a list of names nor a map between names and the numbers from 0 on"
        )
    if not names:
        raise DataError(f"{file}: no classes in it")
    count = Counter(map(normalized, names))
    return [name if count[normalized(name)] == 1 else f"{name} ({number})" for number, name in enumerate(names)]


def _names(content: object) -> list[str] | None:
    """The names in the order of their numbers; None where the JSON is neither a list nor such a map."""
    if isinstance(content, dict):
        numbered = {}
        for key, value in content.items():
            value = value[0] if isinstance(value, list) and value else value
            number, name = (key, value) if isinstance(value, str) else (value, key)
            try:
                numbered[int(number)] = name
            except (TypeError, ValueError):
                return None
        if sorted(numbered) != list(range(len(content))):
            return None
        return [numbered[number] for number in range(len(numbered))]
    if isinstance(content, list) and all(isinstance(name, (str, int)) for name in content):
        return [str(name) for name in content]
    return None
