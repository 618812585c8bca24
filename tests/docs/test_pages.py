"""Each command has a page, whose sections and tables are as they should be."""

import re

import pytest

from mlcli.commands import COMMANDS
from mlcli.options import option
from tests.docs import option_tables
from tests.docs.code_links import FENCE
from tests.docs.regenerate import OF_COMMANDS, PAGES, README, ROOT, SAMPLES, regenerated

SECTIONS = [
    "Papers",
    "Example",
    "More examples",
    "Options",
    "What it writes",
    "Implementation details",
    "Results",
    "Limits and questions",
]
BY_NAME = {command.name: command for command in COMMANDS}
LONGEST = 60  # words of a paragraph


def test_each_command_has_a_page_and_each_page_a_command():
    assert [page.stem for page in OF_COMMANDS] == sorted(BY_NAME)


@pytest.mark.parametrize("page", OF_COMMANDS, ids=lambda page: page.stem)
def test_a_page_has_all_sections(page):
    text = FENCE.sub("", page.read_text("utf-8"))
    assert page.stem in BY_NAME and text.startswith(f"# mlcli {page.stem}\n\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS


def test_the_readme_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", [README, SAMPLES, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_paragraphs_are_short(page):
    paragraphs = FENCE.sub("", page.read_text("utf-8")).split("\n\n")
    items = [item for each in paragraphs for item in re.split(r"^- ", each, flags=re.MULTILINE)]
    long = [item for item in items if not item.startswith("|") and len(item.split()) > LONGEST]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_generated_is_up_to_date(page):
    """The tables of options to the letter; links to lines may miss by a few, see test_links.py."""
    current, expected = (re.sub(r"#L\d+", "", text) for text in (page.read_text("utf-8"), regenerated(page)))
    assert current == expected, f"run `python -m tests.docs.regenerate {page.stem}`"


@pytest.mark.parametrize("page", OF_COMMANDS, ids=lambda page: page.stem)
def test_results_are_measured_ones(page):
    """Figures with a percent sign stand in the results, number by number."""
    section = page.read_text("utf-8").split("\n## Results\n")[1].split("\n## ")[0]
    measured = (ROOT / "tests/benchmarks/RESULTS.md").read_text("utf-8")
    numbers = set(re.findall(r"\d+\.\d+", section))
    assert [number for number in numbers if number not in measured] == []


def test_the_rows_of_a_table():
    rows = {row.flags: row for row in option_tables.rows(BY_NAME["stylize"])}
    assert rows["`IMAGES...`"].default == "required" and rows["`IMAGES...`"].panel == "Arguments"
    assert rows["`-o`, `--output PATH`"].default == "required"
    assert rows["`--pooling CHOICE`"].help.endswith("One of `max`, `average`.")
    assert rows["`--pooling CHOICE`"].default == "`max`"
    assert rows["`--alpha X`"].help.endswith("From 0 to 1.")
    assert rows["`--alpha X`"].default == "0.2 for cifarnet, 0.05 for other models"
    assert rows["`--tile N`"].help.endswith("At least 64.") and rows["`--resume`"].default == "off"
    assert rows["`-q`, `--quiet`"].panel == "Output"
    rows = {row.flags: row for row in option_tables.rows(BY_NAME["train"])}
    assert rows["`--flip`, `--no-flip`"].default == "on"
    rows = {row.flags: row for row in option_tables.rows(BY_NAME["classify"])}
    assert rows["`--format CHOICE`"].help.endswith("One of `table`, `json`, `csv`, `jsonl`, `parquet`.")
    rows = {row.flags: row for row in option_tables.rows(BY_NAME["patches"])}
    assert rows["`--layer TEXT`"].default == "`conv3`"
    rows = {row.flags: row for row in option_tables.rows(BY_NAME["siamese-verify"])}
    assert "--gallery" in rows["`--exit-status`"].help


@pytest.mark.parametrize("command", BY_NAME.values(), ids=lambda command: command.name)
def test_limits_are_said_once(command):
    limits = re.compile(r"at (?:least|most) [\d,.]+\d|from [\d,.]+\d? to [\d,.]+\d|from \d to \d", re.IGNORECASE)
    said = {row.flags: limits.findall(row.help.lower()) for row in option_tables.rows(command)}
    assert {flags: found for flags, found in said.items() if len(set(found)) < len(found)} == {}


def test_a_table_changes_with_its_configuration(monkeypatch):
    """So that a page would fail whose command has another option, default, help or choice."""
    from mlcli.api.classify import ClassifyConfig

    before = option_tables.table(BY_NAME["classify"])
    field = ClassifyConfig.__dataclass_fields__["top_k"]
    for other in (
        option(7, "Number of classes to name.", minimum=1),
        option(5, "Number of classes.", minimum=1),
        option(5, "Number of classes to name.", minimum=2),
        option(5, "Number of classes to name.", "--top", minimum=1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(field, "metadata", other.metadata)
            patch.setattr(field, "default", other.default)
            assert option_tables.table(BY_NAME["classify"]) != before
    assert option_tables.table(BY_NAME["classify"]) == before


def test_a_page_without_room_for_its_table_is_named():
    with pytest.raises(ValueError, match="classify.md: lacks the lines"):
        option_tables.with_table("# mlcli classify\n", BY_NAME["classify"])


def test_the_table_of_the_readme_has_the_order_and_the_panels_of_help():
    rows = re.findall(r"^\| (?:\*\*(.+?)\*\*|\[`(.+?)`\])", README.read_text("utf-8"), re.MULTILINE)
    expected: list[str] = []
    for command in COMMANDS:
        if command.panel not in expected:
            expected.append(command.panel)
        expected.append(command.name)
    assert [panel or name for panel, name in rows] == expected
