"""report.html: everything in one page, nothing from outside, nothing unescaped."""

import math
import os
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch

from mlcli.imaging import image_io
from mlcli.reporting import report
from mlcli.reporting.sections import Section, Table
from mlcli.training.run_folder import Run


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.sources, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        sources = [value for name, value in attributes if name in ("src", "href")]
        self.sources += [source for source in sources if not source.startswith("#")]  # these are within the page

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
    assert "Faces, step 3" in text and "0.125" in text
    assert page.tags.count("svg") == 1 and "loss: 0.125 to 2, last 0.125; steps 1 to 3" in text
    assert "the mean over the steps since the point before it" in text
    assert "http" not in run.report_file.read_text(), "neither images nor namespaces of elsewhere"


def test_results_are_at_the_top_and_need_no_curves(run):
    result = Section("Evaluation", [Table(("class", "accuracy"), [("<cat>", 0.875)], "Each class", "Of 8 images.")])
    options = Section("Options", [Table(("option", "value"), [("--lr", 0.25)])])
    report.write(run, [result], "mlcli train 'my photos'", [options])
    page = Page(run.report_file.read_text())
    text = " ".join(word.strip() for word in page.words if word.strip())
    wanted = (
        "mlcli train 'my photos' Evaluation Each class class accuracy <cat> 0.875 Of 8 images. Options option value"
    )
    assert wanted in text and "Curves" not in text and "img" not in page.tags


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


def test_values_and_names_of_any_kind_are_shown(run):
    for step in (1, 2):
        run.log(step, {"<b>$\ud800\x00": 1e308, "flat": 5, "tiny": step * 1e-320, "none": math.nan})
    report.write(run)
    page = Page(run.report_file.read_text("utf-8"))
    assert page.tags.count("svg") == 3 and "b" not in page.tags and "<b>$\\ud800\\x00" in " ".join(page.words)


def test_a_report_that_is_up_to_date_is_left_alone(run):
    for step in (1, 2):
        run.log(step, {"loss": 1 / step})
    report.write(run)
    content, times = run.report_file.read_bytes(), run.report_file.stat().st_mtime_ns
    report.write(run)
    assert run.report_file.stat().st_mtime_ns == times
    run.report_file.unlink()
    report.write(run)
    assert run.report_file.read_bytes() == content, "the same bytes each time"


def test_stages_are_linked_by_their_bytes(run):
    stage = run.part("seed-0", os.fsdecode(b"a \xff"))
    stage.create({"command": "adapt", "options": {}})
    report.write(stage)
    os.makedirs(run.folder / "mine")
    (run.folder / "mine/report.html").write_text("of no run")
    report.write(run)
    page = Page(run.report_file.read_text("utf-8"))
    assert page.sources == ["seed-0/a%20%FF/report.html"] and "seed-0/a \\udcff/report.html" in page.words


def test_no_matplotlib_is_loaded_for_a_report_without_curves(run):
    code = "import sys; from mlcli.reporting import report; from mlcli.training.run_folder import Run\n"
    code += "assert 'jinja2' not in sys.modules; report.write(Run(sys.argv[1])); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, run.folder], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n" and os.path.exists(run.report_file)


def test_a_run_without_curves_says_why(run):
    report.write(run)
    assert "No step has been logged so far." in run.report_file.read_text()
    run.log(1, {"loss": 0.5})
    report.write(run)
    text = run.report_file.read_text()
    assert "Metrics were logged once; a curve needs two points." in text and "None yet" not in text and ">0.5<" in text
