"""Exported files as models: their own, those of other programs, and damaged ones."""

import json

import onnx
import pytest
import torch
from torch import nn

from mlcli.errors import MlcliError, UsageError, WeightsError
from mlcli.models import registry
from mlcli.models.exports import exported_model, onnx_file
from mlcli.models.exports.exporting import export
from mlcli.models.exports.model_subjects import of_classifier
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime
from tests import exportable

FP32 = Runtime(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return registry.load(str(exportable.write(tmp_path_factory.mktemp("runs") / "run", "classifier")))


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    made = tmp_path_factory.mktemp("files") / "model.onnx"
    export(of_classifier(model), made)
    return made


def test_a_file_is_the_model_that_it_was_made_of(file, model):
    made = registry.load(str(file), runs_on=FP32)
    assert made.classes == model.classes and made.preprocessing == model.preprocessing and not made.assumed
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(made(images), model(images), atol=1e-5, rtol=1e-4)
    assert (
        made.engine == "onnxruntime" and len(made.hash) == 64 and made.hidden.address == features.hidden(model).address
    )


def test_names_of_the_classes_may_be_given(file, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
    assert registry.load(str(file), runs_on=FP32, classes=tmp_path / "names.txt").classes == ("one", "two", "three")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="holds 2 names, the model has 3 classes"):
        registry.load(str(file), runs_on=FP32, classes=tmp_path / "names.txt")


def foreign(path, network, shape=(1, 3, 16, 16)):
    free = {"x": {0: "n"}, "y": {0: "n"}}
    path.write_bytes(onnx_file.encoded(network, {"x": torch.zeros(shape)}, ["y"], free))
    return str(path)


@pytest.mark.parametrize("last", [nn.Identity(), nn.Softmax(1)])
def test_a_file_of_another_program_takes_names_and_says_what_it_assumes(last, tmp_path):
    torch.manual_seed(0)
    linear = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    name = foreign(tmp_path / "other.onnx", nn.Sequential(linear, last))
    with pytest.raises(UsageError, match="--classes FILE"):
        registry.load(name, runs_on=FP32)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    made = registry.load(name, runs_on=FP32, classes=tmp_path / "names.txt")
    assert ("probabilities" if isinstance(last, nn.Softmax) else "logits") in made.assumed
    assert made.preprocessing.crop == 16 and made.preprocessing.resize == 18 and "18" in made.assumed
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        wanted = linear(made.normalized(images)).softmax(1)
    torch.testing.assert_close(made(images).softmax(1), wanted, atol=1e-5, rtol=1e-4)
    with pytest.raises(UsageError, match="gives no features"):
        made.require_features()


def test_what_is_no_classifier_of_images_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    names = tmp_path / "names.txt"
    for network, shape, message in (
        (nn.Flatten(), (1, 4), "takes n x 4"),
        (nn.Flatten(), (1, 3, 4, 4), "the model has 48 classes"),
        (nn.Identity(), (1, 3, 4, 4), "gives a row of values"),
        (nn.Flatten(), (1, 4, 4, 3), "batch x 3 x side x side"),
    ):
        with pytest.raises(MlcliError, match=message):
            registry.load(foreign(tmp_path / "x.onnx", network, shape), runs_on=FP32, classes=names)


def test_damaged_files_are_errors(file, tmp_path):
    bad = tmp_path / "bad.onnx"
    with pytest.raises(WeightsError, match="no such file"):
        registry.load(str(bad), runs_on=FP32)
    bad.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot load it"):
        registry.load(str(bad), runs_on=FP32)
    whole = onnx.load(str(file))
    described = json.loads(whole.metadata_props[0].value)
    for change in ({"classes": 3}, {"preprocessing": {"crop": -1}}, {"format": 99}, {"kind": "segmenter"}):
        onnx.helper.set_model_props(whole, {"mlcli": json.dumps(described | change)})
        onnx.save(whole, str(bad))
        with pytest.raises(WeightsError, match="bad.onnx: (its description is damaged|is of another|holds a)"):
            registry.load(str(bad), runs_on=FP32)
    onnx.helper.set_model_props(whole, {"mlcli": "{"})
    onnx.save(whole, str(bad))
    with pytest.raises(WeightsError, match="description is damaged"):
        registry.load(str(bad), runs_on=FP32)


def test_other_commands_are_told_what_to_take(file):
    with pytest.raises(UsageError, match="take the model that it was made of"):
        registry.load(str(file))
    with pytest.raises(UsageError, match="has its own"):
        registry.load(str(file), "weights.pth", runs_on=FP32)
    with pytest.raises(UsageError, match="--device cpu"):
        exported_model.load(str(file), None, Runtime(torch.device("cuda"), "fp32"))
    with pytest.raises(UsageError, match="take fp32"):
        exported_model.load(str(file), None, Runtime(torch.device("cpu"), "bf16"))
