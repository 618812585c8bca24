"""What somebody, or a failing disk, may make of a JSON document: every value in it replaced, taken out, or added to."""

import copy
from collections.abc import Iterator
from typing import Any

BAD = (None, True, -1, 0, 10**6, 1e308, float("nan"), "x", "../x", [], [None], {}, {"x": 1}, "9" * 50)


def ways(value: Any, way: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside; of long lists to the first two."""
    yield way
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inside:
        yield from ways(item, (*way, key))


def mutations(document: Any, bad: tuple = BAD) -> Iterator[tuple[str, Any]]:
    """(what was done, the document with one value replaced or taken out)."""
    for way in ways(document):
        if not way:
            yield from ((f"{value!r} in place of all", value) for value in bad)
            continue
        for value in (*bad, KeyError):
            changed = copy.deepcopy(document)
            inner = changed
            for key in way[:-1]:
                inner = inner[key]
            if value is KeyError:
                del inner[way[-1]]
            else:
                inner[way[-1]] = value
            yield f"{'.'.join(map(str, way))}: {'taken out' if value is KeyError else repr(value)}", changed
