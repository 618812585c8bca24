"""`mlcli.explain` as a notebook calls it, and what it writes."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.api import explain as api
from mlcli.api.explain import explain
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.imaging import image_io
from mlcli.methods.explanation.layer_maps import last_layer
from mlcli.methods.explanation.registry import METHODS
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Targets
from mlcli.models import registry
from mlcli.runtime.device import Runtime

SMALL = {"model": "cifarnet"}
CHEAP = ("grad-cam", "guided-backprop")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """cat.png, deep/gray.jpg, explain.png."""
    root = tmp_path_factory.mktemp("photos")
    (root / "deep").mkdir()
    cat = Image.open("samples/photos/cat.jpg").resize((60, 40))
    cat.save(root / "cat.png")
    cat.convert("L").save(root / "deep" / "gray.jpg")
    cat.rotate(90).save(root / "explain.png")
    return root


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory):
    """(what explain returned, the folder) of two methods and two targets."""
    out = tmp_path_factory.mktemp("explain") / "why"
    return explain(photos, output=out, method=CHEAP, target=["predicted", "conv5:12"], **SMALL), out


def test_what_is_written(done, photos):
    result, out = done
    files = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert result.failures == 0 and len(result.files) == 3
    assert {"cat.json", "cat.sheet.png", "deep/gray.json", "explain.png.json", "explain.json"} < files
    told = json.loads((out / "cat.json").read_text())
    assert told["size"] == [60, 40] and told["box"] == [10, 0, 50, 40] and told["command"] == "explain"
    assert told["options"]["image"] == str(photos / "cat.png") and len(told["explanations"]) == 4
    for each in told["explanations"]:
        map = np.load(out / each["map"], allow_pickle=False)
        assert map.dtype == np.float32 and list(map.shape) == each["shape"] and np.isfinite(map).all()
        assert Image.open(out / each["overlay"]).size == (224, 224)
    first = told["explanations"][0]
    assert (first["method"], first["target"]) == ("grad-cam", told["predicted"]["label"]) and first["layer"]
    assert first["probability"] == pytest.approx(told["predicted"]["probability"], rel=1e-4)
    assert first["map"] == f"cat.grad-cam.{first['target']}.npy"
    assert "probability" not in told["explanations"][2]
    assert {"cat.guided-backprop.conv5_12.npy", "deep/gray.grad-cam.conv5_12.png"} < files


def test_the_numbers_are_those_of_the_method(done, photos):
    _, out = done
    model = registry.load("cifarnet")
    targets = Targets(model, ["conv5:12"])
    scorer = Scorer(model, targets.objectives, Runtime(torch.device("cpu"), "fp32"), last_layer(model))
    image = model.normalized(model.preprocessing.prepare(image_io.read(photos / "cat.png"))[None])
    (expected,) = METHODS["grad-cam"].compute(scorer, image, targets.of(None), None)
    written = np.load(out / "cat.grad-cam.conv5_12.npy")
    assert np.abs(written - expected.values.numpy()).max() <= 1e-4 * np.abs(written).max()


def test_what_is_done_is_left_alone(done, photos, monkeypatch):
    _, out = done
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}
    again = explain(photos, output=out, method=CHEAP, target=["predicted", "conv5:12"], **SMALL)
    assert len(again.files) == 3 and before == {f: f.stat().st_mtime_ns for f in out.rglob("*") if f.is_file()}
    with pytest.raises(UsageError, match="its results were made with method"):
        explain(photos, output=out, target=["predicted", "conv5:12"], **SMALL)
    with pytest.raises(UsageError, match="made with method .* not deconvnet"):  # though the layer differs too
        explain(photos, output=out, method=["deconvnet"], target=["predicted", "conv5:12"], **SMALL)
    os.utime(photos / "cat.png")
    explain(photos, output=out, method=CHEAP, target=["predicted", "conv5:12"], **SMALL)
    assert (out / "cat.json").stat().st_mtime_ns > before[out / "cat.json"]
    assert (out / "deep/gray.json").stat().st_mtime_ns == before[out / "deep/gray.json"]


@pytest.mark.parametrize("lost", ["cat.grad-cam.conv5_12.npy", "cat.grad-cam.conv5_12.png", "cat.sheet.png"])
def test_what_lacks_a_file_is_made_again(lost, done, photos):
    _, out = done
    before = (out / lost).read_bytes()
    os.remove(out / lost)
    again = explain(photos, output=out, method=CHEAP, target=["predicted", "conv5:12"], **SMALL)
    assert len(again.files) == 3 and (out / lost).read_bytes() == before
    others = {file.name: file.stat().st_mtime_ns for file in (out / "deep").iterdir()}
    (out / "cat.json").write_text('{"explanations": [{"map": "a/b", "overlay": ""}]}')
    explain(photos, output=out, method=CHEAP, target=["predicted", "conv5:12"], **SMALL)
    assert json.loads((out / "cat.json").read_text())["explanations"]
    assert others == {file.name: file.stat().st_mtime_ns for file in (out / "deep").iterdir()}


def test_in_memory_as_in_files(done, photos):
    _, out = done
    result = explain(Image.open(photos / "cat.png"), method="grad-cam", target="conv5:12", **SMALL)
    (each,) = result.explanations
    assert np.allclose(each.map, np.load(out / "cat.grad-cam.conv5_12.npy"), rtol=1e-3, atol=1e-6)
    assert each.overlay.size == (224, 224) and result.as_json()[0]["target"] == "conv5:12"
    with pytest.raises(UsageError, match="has no file name"):
        explain(Image.open(photos / "cat.png"), output=out, **SMALL)


def test_a_baseline_from_a_file(photos):
    options = {"method": "integrated-gradients", "target": "cat", "path_steps": 3, **SMALL}
    (itself,) = explain(photos / "cat.png", baseline=photos / "cat.png", **options).explanations
    assert not itself.map.any()
    (other,) = explain(photos / "cat.png", baseline=photos / "explain.png", **options).explanations
    assert other.map.any() and other.more["completeness"]["points"] == 3
    with pytest.raises(ImageError, match="no.png"):
        explain(photos / "cat.png", baseline="no.png", **options)


def test_faithfulness_marks_what_fails(photos, tmp_path):
    result = explain(photos, output=tmp_path / "out", method=CHEAP, target="cat", evaluate=True, **SMALL)
    told = {each["method"]: each for each in json.loads((tmp_path / "out/cat.json").read_text())["explanations"]}
    for each in told.values():
        checks = each["checks"]
        assert len(checks["deletion_curve"]) == 15 and 0 <= checks["deletion"] <= 1
        assert checks["deletion_curve"][0] == pytest.approx(each["probability"], abs=1e-3)
        assert checks["insertion_curve"][-1] == pytest.approx(each["probability"], abs=1e-3)
        assert set(checks["sanity"]) == {"half", "all"} and checks["random"] != checks["center"]
    assert "sanity" in told["guided-backprop"]["checks"]["failed"]
    assert "sanity" not in told["grad-cam"]["checks"]["failed"]
    rows = {row.name: row for row in result.evaluation.rows}
    assert list(rows) == ["random", "center", *CHEAP] and all(row.count == 3 for row in rows.values())
    assert rows["guided-backprop"].failed["sanity"] >= 2 and rows["grad-cam"].failed["sanity"] == 0
    mean, low, high = rows["grad-cam"].advantages["random"]
    assert low <= mean <= high
    assert json.loads((tmp_path / "out/explain.evaluation.json").read_text()) == result.evaluation.as_json()


def test_what_cannot_be_done_together(photos, tmp_path):
    for options, said in (
        ({"evaluate": True}, "--evaluate: needs a folder"),
        ({"shard": "1/2"}, "--shard: needs a folder"),
        ({"evaluate": True, "shard": "1/2", "output": tmp_path / "o"}, "--evaluate: measures all images"),
        ({"target": []}, "no target or no method"),
        ({"precision": "fp16"}, "fp16"),
        ({"target": "conv1:3"}, "--layer conv5: conv1:3 does not depend on it"),
        ({"layer": "classifier"}, "--layer classifier: its values have no positions"),
    ):
        with pytest.raises(UsageError, match=said):
            explain(photos, **options, **SMALL)
    with pytest.raises(DataError, match="no images"):
        explain(tmp_path, **SMALL)


def test_images_that_fail_are_named_and_the_others_done(photos, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.png").write_bytes(b"no image")
    Image.open(photos / "cat.png").save(tmp_path / "in/good.png")
    result = explain(tmp_path / "in", output=tmp_path / "out", **SMALL)
    assert result.failures == 1 and [file.name for file in result.files] == ["good.json"]
    assert explain(tmp_path / "in", **SMALL).failures == 1


def test_names_of_targets_in_file_names():
    from mlcli.api.explanations import _slugs

    assert _slugs(["cat"]) == {"cat": ""}
    found = _slugs(["a/b c", "a_b_c", "ä" * 60, "conv4:12"])
    assert len(set(found.values())) == 4 and found["a/b c"] == "a_b_c" and found["conv4:12"] == "conv4_12"
    assert all(len(slug.encode()) <= 61 for slug in found.values())


def test_the_folders_record_has_no_images_name():
    assert api.RECORD == "explain" and str(api._json_name(api.Path("a/explain.jpg"))) == "a/explain.jpg.json"
    assert str(api._json_name(api.Path("a/cat.v2.jpg"))) == "a/cat.v2.json"
