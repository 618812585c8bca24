"""`mlcli adapt` over real files: every method, the table, leaks, guards, mistakes."""

import json
import shutil

import pytest
import torch
from PIL import Image

from mlcli.data.domains import Domain
from mlcli.data.folders import ClassFolder
from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.adaptation import results
from mlcli.methods.adaptation.registry import METHODS
from mlcli.models import registry, translators
from tests import quick_charts, shapes
from tests.adaptations import QUICK, SMALL, TRAINED, adapt, files, write_domains
from tests.cli import mlcli
from tests.killing import killed_at_its_end


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("domains"))


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gives_a_table_a_classifier_and_stays_the_same(method, data, tmp_path):
    run = tmp_path / "run"
    options = ["--test", data / "test", "--format", "json"]
    result = json.loads(adapt(data, run, *options, method=method).stdout)
    assert result == json.loads((run / "results.json").read_text())
    for name in ("source_only", "adapted", "last", "best_possible")[: 4 if method in TRAINED else 2]:
        assert result[name].keys() == {"mean", "sd", "interval", "runs"} and len(result[name]["runs"]) == 1
        low, high = result[name]["interval"]
        assert low <= result[name]["mean"] <= high
    if method in TRAINED:
        assert result["best_possible"]["mean"] >= max(result["adapted"]["mean"], result["last"]["mean"])
    assert "target_supervised" not in result

    words = ["--evaluate", "--format", "json", "--precision", "fp32"]
    said = json.loads(mlcli("classify", "--model", run, data / "test", *words).stdout)
    assert said["accuracy"] == pytest.approx(result["adapted"]["mean"]), "the model of the run is the adapted one"
    if method in ("simgan", "cycada", "seuda"):
        mlcli("translate", run, data / "bare", "-o", tmp_path / "translated")
        assert len(list((tmp_path / "translated").glob("*.png"))) == 60
    page = (run / "report.html").read_text()
    assert "source only" in page and f"{result['adapted']['mean']:.2%}" in page
    assert ("seed-0/adapted" in page) == (method in TRAINED) and "seed-0/source" in page

    before = files(run)
    again = adapt(data, run, *options, "--resume", method=method).stdout
    assert json.loads(again) == result and files(run) == before, "a finished run is resumed for nothing"


def test_a_run_that_is_done_is_neither_measured_nor_written_again(data, tmp_path, monkeypatch):
    run, options = tmp_path / "run", ["--test", data / "test", "--format", "json"]
    result = json.loads(adapt(data, run, *options).stdout)
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    page = (run / "report.html").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(results, "measure", None)
        assert json.loads(adapt(data, run, *options, "--resume").stdout) == result
        assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before
        for report in (None, "of the epochs"):  # killed after the results
            (run / "report.html").unlink() if report is None else (run / "report.html").write_text(report)
            killed_at_its_end(run)
            assert "adapted" in adapt(data, run, "--resume").stdout
            assert (run / "report.html").read_bytes() == page
    (run / "results.json").unlink()  # killed before them
    (run / "samples/domains-before-and-after.png").unlink()
    assert json.loads(adapt(data, run, *options, "--resume").stdout) == result
    assert (run / "samples/domains-before-and-after.png").exists()


def test_a_run_takes_more_seeds(data, tmp_path):
    """The first is left as it is, and all are in the table: that of a run begun with as many."""
    options = ["--test", data / "test", "--format", "json"]
    adapt(data, tmp_path / "run", *options)
    before = files(tmp_path / "run")
    more = json.loads(adapt(data, tmp_path / "run", *options, "--resume", "--seeds", 2).stdout)
    assert more == json.loads(adapt(data, tmp_path / "whole", *options, "--seeds", 2).stdout)
    assert len(more["adapted"]["runs"]) == 2
    assert before.items() <= files(tmp_path / "run").items()
    for seeds in ([], ["--seeds", 1]):
        assert json.loads(adapt(data, tmp_path / "run", *options, "--resume", *seeds).stdout) == more
    assert json.loads((tmp_path / "run/config.json").read_text())["options"]["seeds"] == 2


def test_a_stage_holds_the_model_that_was_chosen_and_a_test_set_may_come_later(data, tmp_path):
    run, options = tmp_path / "run", ["--seeds", 2, "--steps", 12, "--candidates", 4, "--lr", 0.05]
    adapt(data, run, *options)
    assert "adapted" not in json.loads((run / "results.json").read_text())
    said = adapt(data, run, *options, "--resume", "--test", data / "test", "--format", "csv").stdout.splitlines()
    result = json.loads((run / "results.json").read_text())
    assert said[0] == "model,accuracy,sd,low,high,runs"
    assert said[2].split(",")[:2] == ["adapted", str(result["adapted"]["mean"])]
    assert result["adapted"]["runs"] != result["last"]["runs"], "the choice makes no difference here"
    for seed, accuracy in enumerate(result["adapted"]["runs"]):
        words = ["classify", "--model", run / f"seed-{seed}/adapted", data / "test", "--evaluate", "--format", "json"]
        assert json.loads(mlcli(*words, "--precision", "fp32").stdout)["accuracy"] == pytest.approx(accuracy)
    adapt(data, run, *options, "--resume", "--test", data / "source")
    assert json.loads((run / "results.json").read_text())["test_images"] == 60
    assert json.loads((run / "config.json").read_text())["options"]["test"] == str(data / "source")


def test_other_labels_of_the_source_are_other_data(data, tmp_path):
    shutil.copytree(data / "source", tmp_path / "source")
    words = ["adapt", "--method", "adda", tmp_path / "source", data / "target", "-o", tmp_path / "run", *QUICK]
    mlcli(*words)
    (tmp_path / "source/across").rename(tmp_path / "source/other")
    (tmp_path / "source/cross").rename(tmp_path / "source/across")
    (tmp_path / "source/other").rename(tmp_path / "source/cross")
    assert "the source data have changed" in mlcli(*words, "--resume", status=1).stderr


def test_from_what_is_held_out_of_the_source_nothing_is_learned(data, tmp_path):
    """Wrong labels on it change the figure on it, and no byte of what is learned."""
    source, run = tmp_path / "source", tmp_path / "run"
    shapes.write(source, 60, 3, target=True)  # noisy, so that no two images are equal
    words = ["adapt", "--method", "adda", source, data / "target", *QUICK, "--source-steps", 100, "--hold-out", 0.25]
    mlcli(*words, "-o", run)
    result = json.loads((run / "results.json").read_text())
    assert (
        result["held_out_images"] == 15 and "source only, held-out source images" in (run / "report.html").read_text()
    )
    folder = ClassFolder.open(source)
    images = ImageDataset.load(folder.paths, folder.labels, size=16, channels=3)
    held = Domain.classified(source, images, labeled=True).in_order().split(0.25, 0)[1]
    for path in held.paths:
        target = tmp_path / "held" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    classify = ["classify", "--model", run / "seed-0/source", tmp_path / "held", "--evaluate", "--format", "json"]
    said = json.loads(mlcli(*classify, "--precision", "fp32").stdout)["accuracy"]
    assert result["held_out"]["runs"] == [pytest.approx(said)] and said > 0.8

    for path in held.paths:
        other = folder.classes[(folder.classes.index(path.parent.name) + 1) % len(folder.classes)]
        path.rename(source / other / f"moved-{path.name}")
    mlcli(*words, "-o", tmp_path / "wrong")
    assert json.loads((tmp_path / "wrong/results.json").read_text())["held_out"]["mean"] < 0.2
    assert files(tmp_path / "wrong") == files(run)
    assert "was started with hold_out 0.25" in mlcli(*words, "--hold-out", 0.5, "-o", run, "--resume", status=2).stderr
    for fraction in (0, 0.001):
        assert "another fraction" in mlcli(*words, "--hold-out", fraction, "-o", tmp_path / "none", status=1).stderr


def test_guards_are_read_from_the_logs_of_the_stages(data, tmp_path):
    """A discriminator that has won by the lines of metrics.jsonl, a short run's too."""
    run = tmp_path / "run"
    adapt(data, run, "--steps", 60)
    log = run / "seed-0/adapted/metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum("d_accuracy" in line for line in lines) >= 50, "too few for the guard to tell"
    log.write_text("".join(json.dumps(line | {"d_accuracy": 1.0}) + "\n" for line in lines))
    (run / "results.json").unlink()
    said = adapt(data, run, "--steps", 60, "--resume").stderr
    assert "seed 0: adapted: the discriminator has been correct on every image" in said and "--loss" not in said
    assert any("lower --lr" in words for words in json.loads((run / "results.json").read_text())["guards"])


def test_a_model_that_is_worse_is_handed_out_only_where_it_is_asked_for(data, tmp_path):
    """A learning rate that is far too large, with each value of --keep; the exit status is the same."""
    run, options = tmp_path / "run", ["--lr", 1, "--steps", 30, "--test", data / "test", "--format", "json"]
    for keep, row, stage, words in (
        ("best", "source_only", "source", "the source model is handed out in its place"),
        ("adapted", "adapted", "adapted", "it is handed out all the same"),
    ):
        said = adapt(data, run, *options, "--keep", keep, "--resume")
        result = json.loads(said.stdout)
        (kept,) = result["kept"]
        assert kept["model"] == row and kept["doubt"]
        assert words in said.stderr and any(words in guard for guard in result["guards"])
        page = (run / "report.html").read_text()
        assert words in page and "model handed out, seed 0" in page
        hashes = {name: registry.load(str(run / "seed-0" / name)).hash for name in ("source", "adapted")}
        assert registry.load(str(run)).hash == hashes[stage] and hashes["source"] != hashes["adapted"]


@pytest.mark.parametrize("method", METHODS)
def test_target_labels_do_not_leak(method, data, tmp_path):
    """Shuffled among the class folders, absent, or given for the comparison: the same bytes in every stage."""
    shuffled = tmp_path / "data"
    for number, path in enumerate(sorted((data / "bare").iterdir())):
        target = shuffled / shapes.CLASSES[(number * 7 + number // 5) % 3] / f"{(number * 31) % 60:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    learned = []
    for name, root in (("true", data / "target"), ("shuffled", shuffled), ("absent", data / "bare")):
        if name != "true" or method == "adda":
            adapt(data, tmp_path / name, method=method, target=root)
            learned.append(files(tmp_path / name))
    assert all(each == learned[0] for each in learned) and len(learned[0]) > (6 if method in TRAINED else 1)
    if method == "adda":
        adapt(data, tmp_path / "given", "--target-labels", "--test", data / "test", target=shuffled)
        given = {name: content for name, content in files(tmp_path / "given").items() if "/target/" not in name}
        assert given == learned[0]


def test_seeds_make_the_spread_and_the_same_seed_the_same_table(data, tmp_path):
    options = ["--test", data / "test", "--seeds", 2, "--target-labels", "--max-target", 48, "--format", "json"]
    results = [json.loads(adapt(data, tmp_path / name, *options).stdout) for name in ("one", "two")]
    assert results[0] == results[1] and results[0]["seeds"] == [0, 1]
    entry = results[0]["target_supervised"]
    first, second = entry["runs"]
    assert entry["mean"] == pytest.approx((first + second) / 2)
    assert entry["sd"] == pytest.approx(abs(first - second) / 2**0.5)
    single = json.loads(adapt(data, tmp_path / "three", *options[:2], *options[5:], "--seed", 1).stdout)
    assert single["adapted"]["runs"][0] == results[0]["adapted"]["runs"][1], "seed 1 is seed 1"


def test_domains_that_disagree_are_said(data, tmp_path):
    inverted = tmp_path / "inverted"
    inverted.mkdir()
    for path in (data / "bare").iterdir():
        image = Image.open(path).point(lambda v: 255 - v)
        image.save(inverted / path.name)
    said = adapt(data, tmp_path / "run", "--steps", 1, target=inverted).stderr
    assert "polarity disagrees" in said
    assert any("polarity" in words for words in json.loads((tmp_path / "run/results.json").read_text())["guards"])


def test_reverse_validation_chooses_and_other_class_frequencies_are_said(data, tmp_path):
    """The classes are equally frequent in the source; in the target one is rare."""
    target = tmp_path / "target"
    shutil.copytree(data / "target", target)
    for path in sorted((target / "upright").iterdir())[1:]:
        path.unlink()
    options = ["--source-steps", 200, "--select", "reverse", "--candidates", 3, "--format", "json"]
    result = json.loads(adapt(data, tmp_path / "run", *options, target=target).stdout)
    (selection,) = result["selection"]
    scores = {each["step"]: each["score"] for each in selection["candidates"]}
    assert selection["criterion"] == result["kept"][0]["criterion"] == "reverse"
    assert scores[selection["chosen"]] == max(scores.values()) and all(0 <= score <= 1 for score in scores.values())
    logged = (tmp_path / "run/seed-0/adapted/metrics.jsonl").read_text()
    assert all(f'"reverse": {score}' in logged for score in scores.values()) and '"im": ' in logged
    shift = result["label_shift"]
    assert shift["source"] == pytest.approx(dict.fromkeys(shapes.CLASSES, 1 / 3), abs=0.02)
    assert shift["estimated"]["upright"] < 0.15 and sum(shift["estimated"].values()) == pytest.approx(1)
    (words,) = [words for words in result["guards"] if "class frequencies" in words]
    assert "upright" in words and "adda, dann" in words and "adabn" not in words
    page = (tmp_path / "run/report.html").read_text()
    assert "Class frequencies" in page and f"{shift['estimated']['upright']:.2%}" in page


@pytest.mark.parametrize("method", METHODS)
def test_where_class_frequencies_differ_no_method_is_worse_without_a_warning(method, data, tmp_path):
    """By more than 3 points. The domains look alike, and of the target's classes two are rare."""
    for folder, seed, left in (("target", 1, 3), ("test", 2, 3)):
        shapes.write(tmp_path / folder, 60, seed)
        for name in shapes.CLASSES[:2]:
            for path in sorted((tmp_path / folder / name).iterdir())[left:]:
                path.unlink()
    options = ["--source-steps", 200, "--test", tmp_path / "test", "--format", "json"]
    options += ["--steps", 60] if method in TRAINED else []
    result = json.loads(adapt(data, tmp_path / "run", *options, method=method, target=tmp_path / "target").stdout)
    assert result["source_only"]["mean"] > 0.9
    warned = any("class frequencies of the target seem to differ" in words for words in result["guards"])
    assert warned or result["adapted"]["mean"] >= result["source_only"]["mean"] - 0.03


def test_segmentation(tmp_path):
    """SeUDA on masks: Dice in place of accuracy, the source model as it was, a target without masks."""
    for part, count, target in (("source", 40, False), ("target", 30, True), ("test", 12, True)):
        shapes.write_masks(tmp_path / part, count, ord(part[0]), target)
    words = ["adapt", "--method", "seuda", "--task", "segment", tmp_path / "source", tmp_path / "target"]
    words += ["--test", tmp_path / "test", "-o", tmp_path / "run", *QUICK, *SMALL["seuda"], "--format", "json"]
    words += ["--hold-out", 0.25]
    next((tmp_path / "target" / "masks").iterdir()).unlink()  # its image is one of the target all the same
    with quick_charts.drawn():
        result = json.loads(mlcli(*words, "--source-steps", 60, "--target-labels").stdout)
    assert result["metric"] == "dice" and result["target_supervised"]["mean"] > 0.5
    assert result["per_class"]["adapted"].keys() == {"class 1"}
    low, high = result["held_out"]["interval"]
    assert result["held_out_images"] == 10 and 0.5 < low < result["held_out"]["mean"] < high
    (plane,) = (tmp_path / "run").rglob("*domains-before-and-after*.png")
    colors = {color for _, color in Image.open(plane).convert("RGB").getcolors(1 << 16)}
    blue, orange = (max(sign * (r - b) for r, _, b in colors) for sign in (-1, 1))
    assert (255, 255, 255) in colors and min(blue, orange) > 80, "points of both domains"
    (source_model,) = result["source_model"]
    assert source_model["before"] == source_model["after"]
    shutil.rmtree(tmp_path / "target" / "masks")
    words[words.index(tmp_path / "run")] = tmp_path / "bare"
    bare = json.loads(mlcli(*words, "--source-steps", 60).stdout)
    assert bare["adapted"] == result["adapted"]
    assert files(tmp_path / "bare").items() <= files(tmp_path / "run").items(), "masks of the target change nothing"
    error = mlcli("classify", "--model", tmp_path / "run", tmp_path / "test" / "images", status=1).stderr
    assert "holds a segmenter" in error


def test_networks_with_batch_norm_serve_as_encoders(data, tmp_path):
    for name in ("digits", "cifarnet"):
        options = ["--model", name, "--source-steps", 2, "--steps", 2, "--candidates", 1]
        adapt(data, tmp_path / name, *options)
        assert registry.load(str(tmp_path / name)).architecture == name


def test_a_refiner_is_a_translator(data, tmp_path):
    adapt(data, tmp_path / "run", method="simgan")
    made = translators.load(tmp_path / "run")
    assert made.architecture == "refiner" and made(torch.zeros(1, 1, 11, 13, dtype=torch.uint8)).shape == (1, 1, 11, 13)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("adda", ["--history", 5], "--history: an option of --method simgan, not of adda"),
        ("adda", ["--task", "segment"], "--method adda does classify"),
        ("seuda", ["--task", "segment", "--select", "reverse"], "--select reverse: is for classes"),
        ("adda", ["--model", "lenett"], "did you mean lenet"),
        ("adda", ["--model", "squeezenet1_1", "--size", 64], "SqueezeNet has no linear layer"),
        ("seuda", ["--size", 30], "resnet-6 takes sides that are multiples of 4"),
        ("cycada", ["--stage", "feature", "--generator", "unet"], "--generator: an option of the pixel stage"),
    ],
)
def test_mistakes_are_said(method, options, message, data, tmp_path):
    result = adapt(data, tmp_path / "run", *options, method=method, status=2)
    assert message in result.stderr and not (tmp_path / "run").exists()


def test_a_test_set_with_an_unknown_class_is_refused_before_any_training(data, tmp_path):
    shutil.copytree(data / "test", tmp_path / "test")
    (tmp_path / "test" / "cross").rename(tmp_path / "test" / "crosss")
    said = adapt(data, tmp_path / "run", "--test", tmp_path / "test", status=1).stderr
    assert "crosss" in said and not (tmp_path / "run").exists()


def test_a_broken_image_is_named_and_the_rest_goes_on(data, tmp_path):
    shutil.copytree(data / "bare", tmp_path / "bare")
    (tmp_path / "bare" / "zzz.png").write_bytes(b"no image")
    assert "zzz.png" in adapt(data, tmp_path / "run", target=tmp_path / "bare").stderr


def test_an_existing_run_is_refused_and_overwritten_whole(data, tmp_path):
    run = tmp_path / "run"
    adapt(data, run, method="simgan")
    assert "--resume" in adapt(data, run, status=2).stderr
    adapt(data, run, "--overwrite")
    assert not (run / "translator.safetensors").exists() and not (run / "seed-0" / "refiner").exists()
