"""Every kind of model as a file, which must compute what the model does."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import mlcli
from mlcli.api.export import Export
from mlcli.errors import MlcliError, UsageError
from mlcli.methods.generation import sampling
from mlcli.methods.metric_learning import embedder
from mlcli.models import registry
from mlcli.models.exports import onnx_file, quantization
from tests import exportable
from tests.tiny import class_folders


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return class_folders(tmp_path_factory.mktemp("photos"), per_class=3, size=24)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run folder of each kind, by its name."""
    root = tmp_path_factory.mktemp("runs")
    for kind in exportable.KINDS:
        exportable.write(root / kind, kind)
    return root


@pytest.fixture(scope="module")
def plain(runs, photos, tmp_path_factory) -> Export:
    """The export of the classifier."""
    file = tmp_path_factory.mktemp("plain") / "model.onnx"
    return mlcli.export(str(runs / "classifier"), output=file, check=photos)


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", exportable.KINDS)
def test_a_file_computes_what_its_model_does(kind, runs, photos, tmp_path):
    takes_images = "gan" not in kind.split() and kind != "label maps"
    options = {"direction": "BtoA"} if kind in ("pix2pix", "cyclegan", "label maps") else {}
    options |= {"check": photos} if takes_images else {}
    result = mlcli.export(str(runs / kind), output=tmp_path / "model.onnx", **options)
    assert result.agreement["largest_difference"] <= 1e-3 and result.agreement["agreement"] > 0.998
    assert result.agreement["real_images"] == takes_images and (result.agreement["inputs"] == 9) == takes_images
    onnx.checker.check_model(str(result.file))
    described = json.loads(session(result.file).get_modelmeta().custom_metadata_map["mlcli"])
    assert described["opset"] == 18 == onnx.load(str(result.file)).opset_import[0].version
    assert described["outputs"] == [each.name for each in session(result.file).get_outputs()]
    assert described["checked"] == result.agreement
    record = json.loads((tmp_path / "model.onnx.json").read_text())
    assert record["command"] == "export" and record["result"]["bytes"] == result.file.stat().st_size


def test_the_batch_and_the_values_are_those_of_the_model(runs, plain):
    file = plain.file
    model = registry.load(str(runs / "classifier"))
    images = torch.rand(5, 3, 16, 16)
    logits, features = session(file).run(None, {"images": model.normalized(images).numpy()})
    np.testing.assert_allclose(logits, model(images).numpy(), atol=1e-5)
    assert logits.shape == (5, 3) and features.shape[0] == 5
    described = onnx_file.OnnxRunner(file).description
    assert described["classes"] == ["cat", "dog", "owl"] and described["preprocessing"]["crop"] == 16
    assert described["weights_sha256"] == model.hash


def test_points_and_their_distance(runs, photos, tmp_path):
    run = str(runs / "siamese of regions")
    run_file = onnx_file.OnnxRunner(mlcli.export(run, output=tmp_path / "model.onnx").file)
    siamese = embedder.load(run, exportable.CPU)
    images = torch.rand(3, 3, 20, 20)
    torch.testing.assert_close(run_file(images)[0], siamese.points(images), atol=1e-5, rtol=1e-4)
    assert run_file.description["norm"] == 2.0 and run_file.description["threshold"] == siamese.calibration.threshold


def test_noise_becomes_images(runs, tmp_path):
    run = str(runs / "conditional gan")
    run_file = onnx_file.OnnxRunner(mlcli.export(run, output=tmp_path / "model.onnx").file)
    sampler = sampling.load(run, exportable.CPU)
    noise, labels = torch.randn(4, 8), torch.tensor([0, 1, 1, 0])
    ours = sampler(noise, labels).float() / 255
    assert (run_file(noise, labels)[0] - ours).abs().max() < 0.5 / 255 + 1e-4
    assert run_file.description["classes"] == ["cat", "dog"]


@pytest.mark.parametrize("kind", ["classifier", "gray classifier", "segmenter", "siamese"])
def test_preprocessing_inside_takes_images_of_any_size(kind, runs, photos, tmp_path):
    result = mlcli.export(
        str(runs / kind), output=tmp_path / "model.onnx", preprocessing_inside=True, check=photos / "red"
    )
    assert result.description["preprocessing_inside"]
    one = session(result.file)
    assert one.get_inputs()[0].type == "tensor(uint8)"
    for height, width in ((16, 40), (33, 20)):
        image = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8)
        assert all(len(values) == 1 for values in one.run(None, {"images": image}))


def test_integers_of_8_bits(runs, photos, plain, tmp_path):
    small = mlcli.export(
        str(runs / "classifier"), output=tmp_path / "small.onnx", int8=True, calibrate=photos, least_agreement=0.5
    )
    assert small.description["weight_bits"] == quantization.weight_bits_here()
    assert small.bytes < 0.4 * plain.bytes and small.description["quantized"] and not plain.description["quantized"]
    kinds = {node.op_type for node in onnx.load(str(small.file)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert 1e-5 < small.agreement["largest_difference"] < 0.5 and small.agreement["inputs"] == 9


def largest_weight(file):
    return max(
        np.abs(onnx.numpy_helper.to_array(values).astype(int)).max()
        for values in onnx.load(str(file)).graph.initializer
        if values.data_type == onnx.TensorProto.INT8
    )


def test_weights_of_7_bits_for_processors_whose_sums_overflow(runs, photos, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "mlcli")
    files = {bits: tmp_path / f"{bits}.onnx" for bits in (7, 8)}
    for bits, file in files.items():
        made = mlcli.export(
            str(runs / "classifier"),
            output=file,
            int8=True,
            calibrate=photos,
            weight_bits=bits,
            least_agreement=0,
        )
        assert made.description["weight_bits"] == bits
    assert largest_weight(files[7]) <= 64 < largest_weight(files[8]) <= 127
    monkeypatch.setattr(quantization, "_sums_are_right", lambda: False)
    default = mlcli.export(
        str(runs / "classifier"), output=tmp_path / "d.onnx", int8=True, calibrate=photos, least_agreement=0
    )
    assert default.description["weight_bits"] == 7
    for bits, told in ((7, False), (8, True)):
        caplog.clear()
        mlcli.classify(photos, model=str(files[bits]))
        assert ("--weight-bits 7" in caplog.text) == told


def test_openvino(runs, photos, tmp_path):
    pytest.importorskip("openvino")
    result = mlcli.export(str(runs / "classifier"), output=tmp_path / "model.xml", check=photos)
    sizes = [(tmp_path / name).stat().st_size for name in ("model.xml", "model.bin")]
    assert result.agreement["agreement"] == 1 and result.bytes == sum(sizes)
    with pytest.raises(UsageError, match="exists already"):
        mlcli.export(str(runs / "classifier"), output=tmp_path / "model.xml")


def test_a_folder_gets_a_file_of_a_fixed_name(runs, tmp_path):
    assert mlcli.export(str(runs / "gan"), output=tmp_path / "new").file == tmp_path / "new" / "model.onnx"


def test_a_file_that_differs_is_not_written(runs, photos, tmp_path, monkeypatch):
    plain = onnx_file.OnnxRunner.__call__
    monkeypatch.setattr(
        onnx_file.OnnxRunner, "__call__", lambda *given, **more: [values + 0.01 for values in plain(*given, **more)]
    )
    with pytest.raises(MlcliError, match="would differ from the original's by 1.0e-02, and the limit is 1e-03"):
        mlcli.export(str(runs / "pix2pix"), output=tmp_path / "model.onnx", direction="AtoB")
    monkeypatch.setattr(
        onnx_file.OnnxRunner, "__call__", lambda *given, **more: [-values for values in plain(*given, **more)]
    )
    with pytest.raises(MlcliError, match="same first class.*limit is 90.0%; not written"):
        mlcli.export(str(runs / "classifier"), output=tmp_path / "small.onnx", int8=True, calibrate=photos)
    assert list(tmp_path.iterdir()) == []


def test_images_are_taken_evenly_and_bad_ones_named(runs, photos, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        Image.new("RGB", (20, 20), (60 * number, 0, 0)).save(images / f"{number}.png")
    (images / "2.png").write_bytes(b"no image")
    result = mlcli.export(str(runs / "classifier"), output=tmp_path / "a.onnx", check=images)
    assert result.failures == 1 and result.agreement["inputs"] == 3
    result = mlcli.export(str(runs / "classifier"), output=tmp_path / "b.onnx", check=images, sample=2)
    assert result.failures == 1 and result.agreement["inputs"] == 1  # 0 and 2


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("classifier", {"int8": True}, "--calibrate IMAGES"),
        ("classifier", {"calibrate": "photos"}, "serves --int8"),
        ("classifier", {"weight_bits": 7}, "--weight-bits serves --int8"),
        ("classifier", {"direction": "AtoB"}, "is for generators that translate"),
        ("gan", {"check": "photos"}, "takes no images"),
        ("gan", {"weights": "x.pth"}, "is for classifiers"),
        ("gan", {"preprocessing_inside": True}, "leave it out"),
        ("pix2pix", {}, "translates in both directions"),
    ],
)
def test_mistakes_are_said(kind, options, message, runs, tmp_path):
    with pytest.raises(UsageError, match=message):
        mlcli.export(str(runs / kind), output=tmp_path / "model.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said_before_the_work(runs, tmp_path, monkeypatch):
    from mlcli.runtime import optional_packages

    monkeypatch.setattr(optional_packages, "EXTRAS", {"onnx": ("no_such_package",), "openvino": ("nor_this",)})
    for name, package in (("model.onnx", "no_such_package"), ("model.xml", "nor_this")):
        with pytest.raises(UsageError, match=f"pip install {package}"):
            mlcli.export(str(runs / "gan"), output=tmp_path / name)


def test_a_run_without_a_model_is_said(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MlcliError, match="has no model yet"):
        mlcli.export(str(tmp_path), output=tmp_path / "model.onnx")
