"""The report of the run folder of each command."""

import json
import re

import mlcli
from mlcli.api import run_reports
from mlcli.api.call import Call, Config
from tests import run_folders
from tests.tiny import class_folders


def page(run):
    run_reports.write(run)
    return run.report_file.read_text("utf-8")


def test_no_report_shows_raw_json_or_none_yet(tmp_path):
    for name, make in run_folders.MAKERS.items():
        text = page(make(tmp_path / name))
        assert "None yet" not in text and "{&#34;" not in text and ">null<" not in text, name
        assert f"<pre>mlcli {name} &#39;photos/&lt;b&gt;" in re.sub("</?span>", "", text), name


def test_misclassified_images_have_names(tmp_path):
    run = run_folders.finetune(tmp_path / "run")
    text = page(run)
    assert text.count('class="tile"') == 2 and "second.png" in text and "cat, predicted dog (91%)" in text
    beside = run.folder / "misclassified.png.json"
    entries = json.loads(beside.read_text())
    for entry in entries["results"]:
        del entry["box"]  # as an earlier version wrote it
    beside.write_text(json.dumps(entries))
    text = page(run)
    assert 'class="tile"' not in text and "True class, and predicted class" in text


def test_an_adaptation_without_points_shows_the_image(tmp_path):
    run = run_folders.adapt(tmp_path / "run")
    assert page(run).count("<svg") == 2
    run.domains_file.unlink()
    assert "<svg" not in page(run)
    run.domains_image.parent.mkdir()
    run.domains_image.write_bytes((run_folders.finetune(tmp_path / "other")).misclassified_file.read_bytes())
    assert "data:image/png" in page(run)


def test_results_of_a_run_that_is_not_finished_are_no_error(tmp_path):
    run = run_folders.siamese(tmp_path / "run")
    run.results_file.unlink()
    text = page(run)
    assert "this network" not in text and "Distances of pairs" not in text and "loss" in text


def test_a_call_from_python_is_shown_as_such(tmp_path):
    data = class_folders(tmp_path / "data", per_class=3)
    run = mlcli.train(data, output=tmp_path / "run", epochs=1, batch_size=6, precision="fp32", size=16)
    typed = json.loads((run.folder / "config.json").read_text())["command_line"]
    assert typed.startswith("mlcli.train(data=") and "epochs=1" in typed and "output=" in typed
    text = (run.folder / "report.html").read_text()
    assert "mlcli.train(data=" in text and re.search(r"--batch-size</th><td[^>]*>6<", text) and "None yet" not in text


def test_a_command_line_is_quoted_as_a_shell_takes_it():
    words = ("mlcli", "train", "my photos")
    assert Call("train", Config(), frozenset(), words).text == "mlcli train 'my photos'"
