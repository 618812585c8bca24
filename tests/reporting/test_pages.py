"""Templates: every value is escaped, and a missing one is an error."""

import jinja2
import pytest

from mlcli.reporting import pages, sections
from mlcli.reporting.sections import Section

GALLERY = {"rows": [], "made_by": [], "note": "", "command_line": ""}


def test_values_are_escaped_and_shown_as_json():
    facts = {"<a>": 1 / 3, "list": ["<b>", 1], "none": None, "on": True, "name": 'x"\udcff'}
    made_by = [Section("<i>", [sections.of_values(facts, ("fact", "value"))])]
    page = pages.render("gallery.html", **GALLERY | {"title": "<script>", "made_by": made_by})
    assert "<title>&lt;script&gt;</title>" in page and page.count("<script>") == 1
    for words in ("&lt;i&gt;", "&lt;a&gt;", "0.333333", "[&#34;&lt;b&gt;&#34;, 1]", "null", "true", "x&#34;\\udcff"):
        assert f">{words}</" in page


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        pages.render("gallery.html", **GALLERY)
