"""report.html: everything in one page, nothing from outside, nothing unescaped."""

from html.parser import HTMLParser

import pytest
import torch

from mlcli.imaging import image_io
from mlcli.reporting import report
from mlcli.training.run_folder import Run


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.sources, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    data = {"training": {"root": "<script>alert(1)</script>", "count": 3}}
    run.create({"command": "train", "options": {"lr": 0.25, "val": None}, "data": data})
    return run


def test_a_page_of_options_curves_samples_and_figures(run):
    for step, loss in ((1, 2.0), (2, 1.0), (3, 0.125)):
        run.log(step, {"loss": loss, "seconds": step})
    image_io.write(torch.rand(3, 4, 4), run.samples_folder / "faces-00000003.png")
    report.write(run)
    page = Page(run.report_file.read_text())
    text = " ".join(page.words)
    assert "script" not in page.tags and "<script>alert(1)</script>" in text
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "faces-00000003" in text and "0.125" in text and "0.25" in text
    assert page.tags.count("polyline") == 1


def test_results_and_images_of_a_run_without_curves(run):
    run.save_results({"l2": 0.01, "validation": {"accuracy": 0.875, "count": 8}})
    image_io.write(torch.rand(3, 4, 4), run.folder / "misclassified.png")
    report.write(run)
    page = Page(run.report_file.read_text())
    text = " ".join(page.words)
    assert "0.01" in text and "validation" in text and "0.875" in text and "misclassified" in text
    assert page.tags.count("img") == 1 and "Curves" not in text


def test_samples_are_shown_from_the_first_to_the_last(run):
    assert report.shown_samples(run) == []
    for step in range(1, 31):
        image_io.write(torch.rand(3, 2, 2), run.samples_folder / f"faces-{step:08d}.png")
    shown = [int(file.stem[-8:]) for file in report.shown_samples(run)]
    assert len(shown) == report.SHOWN_SAMPLES and shown[0] == 1 and shown[-1] == 30
    assert all(2 <= later - former <= 3 for former, later in zip(shown, shown[1:], strict=False))
    for name in "abcde":
        for step in (1, 30):
            image_io.write(torch.rand(3, 2, 2), run.samples_folder / f"{name}-{step:08d}.png")
    shown = report.shown_samples(run)
    assert {int(file.stem[-8:]) for file in shown} == {1, 30} and len(shown) == 12


def test_a_curve_runs_from_left_to_right_and_high_is_up():
    drawn = report.curve("loss", [(10, 4.0), (20, 2.0), (30, 3.0)], width=100, height=50)
    assert 'points="0.0,0.0 50.0,50.0 100.0,25.0"' in drawn
    assert report.curve("loss", [(10, 4.0)]) == ""


def test_a_run_that_has_only_begun_has_a_report(run):
    report.write(run)
    assert "None yet." in run.report_file.read_text()
