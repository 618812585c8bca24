"""Every relative link of the pages, of the README and of the page of the samples leads to something that is there."""

import re

import pytest

from mlcli.api.read_docs import FOLDER
from tests.docs.code_links import FENCE, Link, defined_name, definitions, links, with_lines
from tests.docs.regenerate import PAGES, README, ROOT, SAMPLES

CLOSE = 10  # lines by which a link may miss, so that not every edit of a file asks for new pages
LINKS = [(page, link) for page in (README, SAMPLES, *PAGES) for link in links(page.read_text("utf-8"))]


def headings(page: str) -> set[str]:
    """The anchors of a page's headings, as Git hosts make them."""
    found = re.findall(r"^#+ (.*)$", FENCE.sub("", page), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def problem(page, link: Link) -> str:
    """What is wrong with a link; "" if nothing is."""
    file = page.parent / link.target if link.target else page
    if not file.exists():
        return "leads to no file"
    if not file.resolve().is_relative_to(ROOT):
        return "leads out of the repository"
    lines = re.fullmatch(r"#L(\d+)(?:-L(\d+))?", link.anchor)
    if link.anchor and not lines:
        return "" if link.anchor in headings(file.read_text("utf-8")) else "leads to no heading"
    name = defined_name(link)
    if name:
        line = definitions(file.read_text("utf-8")).get(name)
        if line is None:
            return f"{name} is not defined there"
        if not lines or abs(int(lines[1]) - line) > CLOSE:
            return f"{name} is in line {line}; run `python -m tests.docs.regenerate`"
    elif lines and int(lines[2] or lines[1]) > len(file.read_text("utf-8").splitlines()):
        return "leads beyond the end"
    return ""


@pytest.mark.parametrize("page, link", LINKS, ids=[f"{page.stem}-{link.target}{link.anchor}" for page, link in LINKS])
def test_it_leads_somewhere(page, link):
    assert problem(page, link) == "", link


@pytest.mark.parametrize(
    "link, expected",
    [
        (Link("x", "no.md", ""), "no file"),
        (Link("x", "classify.md", "#no-heading"), "no heading"),
        (Link("x", "classify.md", "#limits-and-questions"), ""),
        (Link("`wilson`", "../methods/evaluation/significance.py", ""), "not defined"),
        (Link("`wilson`", "../methods/evaluation/classification.py", "#L1"), "run `python -m"),
        (Link("`wilson`", "../methods/evaluation/classification.py", ""), "run `python -m"),
        (Link("there", "../errors.py", "#L9999"), "beyond the end"),
        (Link("x", "../../../x", ""), "no file"),
    ],
)
def test_a_wrong_link_is_found(link, expected):
    found = problem(FOLDER / "classify.md", link)
    assert expected in found and bool(found) == bool(expected)


def test_the_line_of_a_definition_is_added_and_corrected():
    for anchor in ("", "#L1"):
        page = f"See [`Config.as_json`](../api/call.py{anchor}), [`no`](../api/call.py), [it](x.md)."
        text = with_lines(page, FOLDER)
        line = int(re.search(r"call\.py#L(\d+)", text)[1])
        assert "def as_json" in (FOLDER / "../api/call.py").read_text("utf-8").splitlines()[line - 1]
        assert "[`no`](../api/call.py), [it](x.md)" in text


def test_links_in_code_blocks_and_to_other_hosts_are_left_alone():
    page = "```sh\n[a](b)\n```\n[c](https://example.com) [d](e.md#f)\n"
    assert list(links(page)) == [Link("d", "e.md", "#f")]
