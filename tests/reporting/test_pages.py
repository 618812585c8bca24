"""Templates: every value is escaped, and a missing one is an error."""

import jinja2
import pytest

from mlcli.reporting import pages

GALLERY = {"rows": [], "facts": {}, "note": ""}


def test_values_are_escaped_and_shown_as_json():
    facts = {"<a>": 1 / 3, "list": ["<b>", 1], "none": None, "on": True, "name": 'x"\udcff'}
    page = pages.render("gallery.html", **GALLERY | {"title": "<script>", "facts": facts})
    assert "<title>&lt;script&gt;</title>" in page and page.count("<script>") == 1
    for words in ("&lt;a&gt;", ">0.333333\n", ">[&#34;&lt;b&gt;&#34;, 1]\n", ">null\n", ">true\n", ">x&#34;\\udcff\n"):
        assert words in page


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        pages.render("gallery.html", **GALLERY)
