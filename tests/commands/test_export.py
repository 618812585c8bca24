"""`mlcli export`, and the exported file as the model of other commands."""

import csv
import io
import json

import pytest
from PIL import Image

from tests.cli import mlcli
from tests.tiny import COLORS, class_folders


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("photos"), per_class=3, size=24, noise=10)


@pytest.fixture(scope="module")
def file(colors, tmp_path_factory):
    made = tmp_path_factory.mktemp("exported") / "colors.onnx"
    mlcli("export", colors, "-o", made)
    return made


def rows(*words, **options):
    return list(csv.DictReader(io.StringIO(mlcli(*words, "--format", "csv", **options).stdout)))


def test_several_images_follow_an_option_and_formats_say_the_same(colors, photos, tmp_path):
    red, blue = photos / "red", photos / "blue"
    words = ["export", colors, "--check", red, blue, "--overwrite", "-o", tmp_path / "x.onnx"]
    printed, found = mlcli(*words), json.loads(mlcli(*words, "--format", "json").stdout)
    assert found["checked"]["inputs"] == 6 and found["kind"] == "classifier" and found["opset"] == 18
    values = {row["name"]: row["value"] for row in rows(*words)}
    assert values["outputs"] == "logits features" and values["agreement"] == "1.0" and values["kind"] == "classifier"
    assert "logits, features" in printed.stdout and "same first class, of 6 images" in printed.stdout


def test_without_images_it_says_what_was_compared(colors, tmp_path):
    result = mlcli("export", colors, "-o", tmp_path / "x.onnx")
    assert "random inputs; --check IMAGES" in result.stderr and "random inputs" in result.stdout
    assert "exists already" in mlcli("export", colors, "-o", tmp_path / "x.onnx", status=2).stderr


def test_classify_runs_the_file(colors, file, photos):
    ours, theirs = rows("classify", photos, "--model", file), rows("classify", photos, "--model", colors)
    assert [row["label"] for row in ours] == [row["label"] for row in theirs] and len(ours) == 9 * len(COLORS)
    for a, b in zip(ours, theirs, strict=True):
        assert float(a["probability"]) == pytest.approx(float(b["probability"]), abs=1e-3)
    assert "accuracy 100.00%" in mlcli("classify", photos, "--model", file, "--evaluate").stdout


def test_classify_runs_a_file_that_prepares_images_itself(colors, photos, tmp_path):
    mlcli("export", colors, "--preprocessing-inside", "--check", photos, "-o", tmp_path / "x.onnx")
    Image.open(photos / "red" / "00.png").resize((40, 19)).save(tmp_path / "wide.png")
    found = rows("classify", photos / "red", tmp_path / "wide.png", "--model", tmp_path / "x.onnx", "--top-k", 1)
    assert [row["label"] for row in found] == ["red"] * 4


def test_neighbors_runs_the_file(colors, file, photos, tmp_path):
    words = ["neighbors", photos / "red" / "00.png", "--among", photos, "-k", 8]
    ours = rows(*words, "--model", file, "-o", tmp_path / "ours.png")
    theirs = rows(*words, "--model", colors, "-o", tmp_path / "theirs.png")
    assert [row["image"] for row in ours] == [row["image"] for row in theirs] and len(ours) == 8
    for a, b in zip(ours, theirs, strict=True):
        assert float(a["distance"]) == pytest.approx(float(b["distance"]), abs=1e-4)
    said = mlcli(*words, "--model", file, "--layer", "conv1", "-o", tmp_path / "x.png", status=2).stderr
    assert "last hidden layer alone" in said


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_engines_classify_and_compare_alike(engine, colors, photos, tmp_path):
    pytest.importorskip(engine)
    words = ["classify", photos, "--model", colors]
    for a, b in zip(rows(*words), rows(*words, "--engine", engine), strict=True):
        assert a["label"] == b["label"] and float(a["probability"]) == pytest.approx(float(b["probability"]), abs=1e-3)
    words = ["neighbors", photos / "red" / "00.png", "--among", photos, "--model", colors, "--refresh"]
    ours = rows(*words, "--engine", engine, "-o", tmp_path / "a.png")
    assert [row["image"] for row in ours] == [row["image"] for row in rows(*words, "-o", tmp_path / "b.png")]


def test_auto_falls_back_on_torch_and_says_so(colors, photos, monkeypatch):
    from mlcli.errors import MlcliError
    from mlcli.models.engines import choice, converted

    def cannot(*_):
        raise MlcliError("it has an odd operation")

    monkeypatch.setattr(choice, "ENOUGH", 3)
    monkeypatch.setattr(choice.optional_packages, "missing", lambda _: [])
    monkeypatch.setattr(converted, "by_openvino", cannot)
    result = mlcli("classify", photos, "--model", colors, "--top-k", 1)
    assert "computed by torch, since openvino cannot be used: it has an odd operation" in result.stderr
    assert result.stdout == mlcli("classify", photos, "--model", colors, "--top-k", 1, "--engine", "torch").stdout
    monkeypatch.setattr(choice.optional_packages, "require", lambda *_: None)
    said = mlcli("classify", photos, "--model", colors, "--engine", "openvino", status=1).stderr
    assert "odd operation" in said


def test_mistakes_are_said(file, photos, tmp_path):
    for words, message in (
        (["classify", photos, "--model", file, "--engine", "torch"], "is computed by onnxruntime"),
        (["classify", photos, "--model", file, "--precision", "bf16"], "take fp32"),
        (["classify", photos, "--model", tmp_path / "absent.onnx"], "no such file"),
        (["layers", "--model", file], "take the model that it was made of"),
        (["export", "no-such-model", "-o", tmp_path / "x.onnx"], "neither a run folder nor a known model"),
        (["export", file, "-o", tmp_path / "x.onnx"], "an exported file already"),
    ):
        assert message in mlcli(*words, status=(1, 2)).stderr
