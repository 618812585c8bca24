"""`mlcli explain` on images and options of all kinds: a result, or one line that says what is wrong."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from mlcli.models import registry
from mlcli.training import run_folder
from tests.cli import mlcli


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Images of many kinds, by name."""
    root = tmp_path_factory.mktemp("odd")
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (40, 50, 3), np.uint8)
    Image.new("RGB", (1, 1), "red").save(root / "pixel.png")
    Image.new("RGB", (32, 32)).save(root / "black.png")
    Image.fromarray(noise[:, :, 0]).save(root / "gray.png")
    Image.fromarray(random.integers(0, 255, (40, 50, 4), np.uint8)).save(root / "alpha.png")
    Image.fromarray(random.integers(0, 65535, (40, 50)).astype(np.uint16)).save(root / "sixteen.png")
    Image.fromarray(noise).resize((4000, 3000)).save(root / "large.jpg", quality=50)
    Image.fromarray(noise).resize((3, 900)).save(root / "strip.png")
    Image.fromarray(noise).save(root / "ünï çode.png")
    return root


def test_images_of_all_kinds(odd, tmp_path):
    methods = [word for method in ("grad-cam", "occlusion", "integrated-gradients") for word in ("--method", method)]
    words = ["--path-steps", 2, "--window", 16, "--model", "cifarnet", "-o", tmp_path / "out"]
    result = mlcli("explain", odd, *methods, *words)
    assert result.stdout == "" and "8 explained" in result.stderr
    for image in odd.iterdir():
        told = json.loads((tmp_path / "out" / f"{image.stem}.json").read_text("utf-8"))
        assert [each["method"] for each in told["explanations"]] == methods[1::2]
        assert all(np.isfinite(np.load(tmp_path / "out" / each["map"])).all() for each in told["explanations"])


HOSTILE = {
    "unknown class": (["--target", "dragonn"], "dragonn: no class of cifarnet"),
    "unknown other class": (["--against", "dragonn"], "--against dragonn: no class of cifarnet"),
    "the same class": (["--target", "cat", "--against", "cat"], "is the target itself"),
    "unknown layer": (["--layer", "conv9"], "conv9: no layer of cifarnet"),
    "layer without maps": (["--layer", "features"], "--layer features: its values have no positions"),
    "unit as layer": (["--layer", "conv4:3"], "conv4:3: names a unit"),
    "unknown unit": (["--target", "conv4:999"], "conv4 has the units 0 to 383"),
    "unit of the image": (["--target", "conv4:1 - tv"], "tv is no value of the network"),
    "broken expression": (["--target", "conv4:3 +"], "at its end"),
    "early target": (["--target", "conv1:3"], "does not depend on it"),
    "large window": (["--method", "occlusion", "--window", "99"], "--window 99"),
    "far stride": (["--method", "occlusion", "--window", "4", "--stride", "9"], "--stride 9: leaves pixels unhidden"),
    "no baseline": (["--method", "integrated-gradients", "--baseline", "no.png"], "no.png"),
    "no steps": (["--path-steps", "0"], "--path-steps"),
    "no samples": (["--samples", "-1"], "--samples"),
    "unknown method": (["--method", "lime"], "lime"),
    "format without report": (["--format", "json"], "--evaluate"),
    "part of a report": (["--evaluate", "--shard", "1/2"], "--evaluate"),
    "rank 0": (["--target", "top-0"], "top-0: no class"),
    "half precision": (["--precision", "fp16"], "fp16"),
    "no model": (["--model", "nonet"], "nonet"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_options(name, odd, tmp_path):
    words, said = HOSTILE[name]
    model = [] if "--model" in words else ["--model", "cifarnet"]
    result = mlcli("explain", odd / "gray.png", "-o", tmp_path / "out", *model, *words, status=(1, 2))
    assert said in " ".join(result.stderr.split()).replace("│ ", ""), result.stderr
    assert "Traceback" not in result.stderr and not list((tmp_path / "out").glob("*.npy"))


ODD_MODELS = {  # architecture, number of classes, size
    "ten classes of a tie": ("cifarnet", 10, 32),
    "one class": ("cifarnet", 1, 32),
    "a transformer": ("timm/test_vit", 10, 160),
    "gray images of 28 pixels": ("lenet-bn", 10, 28),
}


@pytest.mark.parametrize("kind", ODD_MODELS)
@pytest.mark.parametrize("method", ["grad-cam", "occlusion", "guided-backprop"])
def test_models_of_all_kinds(kind, method, odd, tmp_path):
    architecture, classes, size = ODD_MODELS[kind]
    model = registry.create(architecture, [f"class {number}" for number in range(classes)], size)
    if "tie" in kind:
        for parameter in [*model.network.parameters()][-2:]:
            parameter.data.zero_()
    weights = model.network.state_dict()
    run_folder.save_tensors(tmp_path / "model/model.safetensors", weights, model.describe())
    words = ["--method", method, "--model", tmp_path / "model", "--faithfulness", "-o", tmp_path / "out"]
    words += ["--window", size // 2, "--stride", size // 2] if method == "occlusion" else []
    mlcli("explain", odd / "alpha.png", odd / "pixel.png", *words)
    for name in ("alpha", "pixel"):
        (told,) = json.loads((tmp_path / f"out/{name}.json").read_text("utf-8"))["explanations"]
        assert np.isfinite(np.load(tmp_path / "out" / told["map"])).all() and told["checks"]


def test_hostile_files(odd, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    assert (
        "bad.jpg"
        in mlcli("explain", tmp_path / "bad.jpg", "--model", "cifarnet", "-o", tmp_path / "a", status=1).stderr
    )
    assert mlcli("explain", tmp_path / "none", "--model", "cifarnet", "-o", tmp_path / "b", status=(1, 2)).stderr
    (tmp_path / "file").write_text("x")
    said = mlcli("explain", odd / "gray.png", "--model", "cifarnet", "-o", tmp_path / "file", status=2).stderr
    assert "a file; give the name of a folder" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full/other.txt").write_text("x")
    said = mlcli("explain", odd / "gray.png", "--model", "cifarnet", "-o", tmp_path / "full", status=2).stderr
    assert "holds something already" in said
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "same.png")
    words = ["--model", "cifarnet", "-o", tmp_path / "c"]
    assert "same" in mlcli("explain", tmp_path / "x/same.png", tmp_path / "y/same.png", *words, status=1).stderr


def test_the_table_of_methods(odd, tmp_path):
    words = ["explain", odd / "gray.png", odd / "alpha.png", "--target", "cat", "--model", "cifarnet", "--evaluate"]
    first = mlcli(*words, "-o", tmp_path / "out").stdout
    assert "over random" in first and "grad-cam" in first and "center" in first
    report = json.loads(mlcli(*words, "-o", tmp_path / "out", "--format", "json").stdout)
    assert set(report["methods"]) == {"random", "center", "grad-cam"}
    rows = list(csv.DictReader(io.StringIO(mlcli(*words, "-o", tmp_path / "out", "--format", "csv").stdout)))
    assert float(rows[2]["deletion"]) == report["methods"]["grad-cam"]["deletion"] and rows[0]["over_random"] == ""
    assert float(rows[2]["over_center_high"]) == report["methods"]["grad-cam"]["over"]["center"]["interval"][1]
