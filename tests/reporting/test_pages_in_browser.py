"""Every kind of report in a real browser: narrow, dark, offline, and with markup in its names."""

import html
import re
import shutil

import pytest

from mlcli.api import run_reports
from mlcli.reporting import gallery, theme
from mlcli.reporting.gallery import GalleryImage, Row
from mlcli.reporting.sections import Section, Table
from tests import browser, run_folders

# Says in the page what only its layout shows: its width, and the colors of the page and of the first chart's text
PROBE = """<script>
const text = document.querySelector('svg text');
document.body.dataset.seen = [document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor,
  text && getComputedStyle(text).fill].join('|');
</script>"""
EXPECTED = {  # words of the axes, legends and titles of each kind of report
    "finetune": ("Cross-validation", "Confusion matrix", "true \\ predicted", "95 % interval", "51.2% to 91.2%"),
    "siamese-train": (
        *("ROC curve", "false accept rate", "true accept rate", "by chance", "threshold 0.62"),
        *("Distances of pairs", "distance", "different", "step", "loss", "Nearest pairs, step 200"),
    ),
    "cyclegan": ("loss of the discriminator", "AtoB", "BtoA", "step", "Translations and back, step 6", "--loss"),
    "adapt": ("before adaptation", "first principal component", "second principal component", "source", "target"),
    "pretext": ("Linear probes", "layer", "the same network, untrained", "40.00%"),
}


def rgb(color):
    return f"rgb({int(color[1:3], 16)}, {int(color[3:5], 16)}, {int(color[5:], 16)})"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_report_on_a_narrow_dark_screen(name, tmp_path):
    made = run_folders.MAKERS[name](tmp_path / "run")
    run_reports.write(made)
    text = made.report_file.read_text("utf-8")
    assert "<script" not in text and not re.search("https?:", text)
    page = tmp_path / "probed.html"
    page.write_text(text.replace("</html>", PROBE + "</html>"), "utf-8")
    seen = browser.see(page, tmp_path / "net.json", browser.DARK, "--window-size=500,900")
    assert seen.console == [] and seen.requests == []
    words = [html.unescape(each).strip() for each in re.findall(r">([^<>]+)<", seen.dom)]
    for expected in EXPECTED[name]:
        assert any(expected in each for each in words), expected
    assert f"<title>run: mlcli {name}</title>" in seen.dom and run_folders.NASTY in " ".join(words)
    width, paper, ink = html.unescape(re.findall(r'data-seen="([^"]*)"', seen.dom)[0]).split("|")
    assert int(width) <= 500, "nothing is wider than the screen"
    assert paper == rgb(theme.COLORS["page"][1])
    assert ink == (rgb(theme.COLORS["text"][1]) if "<svg" in text else "")


def test_the_page_of_an_atlas_has_the_same_look(tmp_path):
    shutil.copy(run_folders.siamese(tmp_path / "run").samples_folder / "nearest-pairs-00000200.png", tmp_path / "a.png")
    made_by = [Section("Options", [Table(("option", "value"), [("--layer", run_folders.NASTY)])])]
    page = tmp_path / "index.html"
    gallery.write(page, "atlas", [Row(3, "conv4:3", [GalleryImage("a.png", "channel +")])], made_by, "", "mlcli atlas")
    page.write_text(page.read_text("utf-8").replace("</html>", PROBE + "</html>"), "utf-8")
    seen = browser.see(page, tmp_path / "net.json", browser.DARK, "--window-size=500,900")
    assert seen.console == [] and seen.requests == [] and "<pre><span>mlcli</span> <span>atlas</span></pre>" in seen.dom
    width, paper, _ = html.unescape(re.findall(r'data-seen="([^"]*)"', seen.dom)[0]).split("|")
    assert int(width) <= 500 and paper == rgb(theme.COLORS["page"][1])


def test_the_browser_hears_errors_and_sees_requests(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<!doctype html><img src='http://127.0.0.1:9/x.png'><script>nothing.x</script>")
    seen = browser.see(page, tmp_path / "net.json")
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert any("ReferenceError" in line for line in seen.console)
