"""The colors of pages and of the charts in them, each for light and for dark surroundings. Loads no matplotlib."""

from collections.abc import Iterator

# Name of a CSS variable: (light, dark)
COLORS = {
    "page": ("#ffffff", "#181818"),
    "text": ("#222222", "#dddddd"),
    "faint": ("#555555", "#aaaaaa"),
    "link": ("#0b57a4", "#8ab8f0"),
    "line": ("#dcdcdc", "#3c3c3c"),
    "tint": ("#f4f4f4", "#242424"),
    "axis": ("#666666", "#999999"),
    "strong": ("#0072b2", "#3f94c8"),
}
# Of curves, in the order of use. Distinguishable with red-green color blindness too (Wong 2011); on dark, lighter.
SERIES = (
    ("#0072b2", "#4da3e0"),
    ("#e69f00", "#f0b030"),
    ("#009e73", "#2bc797"),
    ("#cc79a7", "#e29cc3"),
    ("#56b4e9", "#a6dcf7"),
    ("#d55e00", "#f5803a"),
    ("#5a5a5a", "#b5b5b5"),
)


def variables(*, dark: bool) -> str:
    """The declarations of the CSS variables, such as --text:#222222;--series-0:#0072b2."""
    return ";".join(f"--{name}:{pair[dark]}" for name, pair in _named())


def by_variable(style: str) -> str:
    """An inline style of a chart with its light colors replaced by the variables, so that the page colors the chart."""
    for name, (light, _) in _named():
        style = style.replace(light, f"var(--{name})")
    return style


def _named() -> Iterator[tuple[str, tuple[str, str]]]:
    yield from COLORS.items()
    for number, pair in enumerate(SERIES):
        yield f"series-{number}", pair
