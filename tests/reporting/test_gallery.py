"""The page of images, read as text and in a real browser where one is installed."""

import re

import pytest
import torch

from mlcli.imaging import image_io
from mlcli.reporting import gallery
from mlcli.reporting.gallery import GalleryImage, Row
from mlcli.reporting.sections import Section, Table
from tests import browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "a b#").mkdir()
    color = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 8)
    image_io.write(color, folder / "a b#" / "red.png")
    rows = [
        Row(n, f"conv4:{n}", [GalleryImage("a b#/red.png", "channel <+>"), GalleryImage("none.png", "", 2.5, 3)])
        for n in range(300)
    ]
    made_by = [Section("Options", [Table(("option", "value"), [("--seed", 0)])])]
    gallery.write(folder / "index.html", 'an "atlas" & more', rows, made_by, "what <is> here", "mlcli atlas '<x>'")
    return folder / "index.html"


def visible(dom: str) -> list[int]:
    return [int(n) for n, rest in re.findall(r'<section data-number="?(\d+)"?([^>]*)>', dom) if "hidden" not in rest]


def test_the_page_needs_nothing_from_elsewhere(page):
    source = page.read_text()
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", source)
    assert source.count('loading="lazy"') == 600 and 'src="a%20b%23/red.png"' in source
    assert "<p>what &lt;is&gt; here</p>" in source
    assert source.count('--ratio:1"') == source.count('--ratio:2.5;--height:3"') == 300
    assert "<pre><span>mlcli</span> <span>atlas</span> <span>&#39;&lt;x&gt;&#39;</span></pre>" in source
    assert '<th scope="row">--seed</th>' in source
    assert "channel &lt;+&gt;" in source and "<h1>an &#34;atlas&#34; &amp; more</h1>" in source


@pytest.mark.parametrize(
    "words, expected",
    [
        ("3,%2040-42", [3, 40, 41, 42]),
        ("conv4:29", [29, *range(290, 300)]),
    ],
)
def test_the_box_filters_rows(page, words, expected):
    dom = browser.run(page, f"#q={words}", "--dump-dom")
    assert visible(dom) == list(expected)


def test_the_images_are_seen(page, tmp_path):
    shot = tmp_path / "shot.png"
    browser.run(page, "#q=200", f"--screenshot={shot}", "--window-size=600,500")
    pixels = image_io.to_unit(image_io.read(shot))
    red = (pixels - torch.tensor([1.0, 0.0, 0.0])[:, None, None]).abs().amax(0) < 0.02
    assert 120**2 < red.sum() < 136**2, "one image, 8rem high"
