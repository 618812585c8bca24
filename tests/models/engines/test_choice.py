"""Engines compute what the network does, and `auto` depends on the device and the number of images alone."""

import pytest
import torch
from torch import nn

from mlcli.errors import MlcliError, UsageError
from mlcli.models import registry
from mlcli.models.engines import choice, converted
from mlcli.models.engines.folded import folded
from mlcli.runtime import optional_packages
from mlcli.runtime.device import Runtime
from tests.exportable import varied

CPU, FP32 = torch.device("cpu"), Runtime(torch.device("cpu"), "fp32")


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = registry.create("cifarnet", ["a", "b", "c"], 16)
    with torch.no_grad():
        varied(made.network).eval().requires_grad_(False)
    return made


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlcli" / "engines"


@torch.inference_mode()
def test_norms_are_folded_and_values_stay(model):
    made, images = folded(model.network, FP32), torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(made(images), model.network(images), atol=1e-5, rtol=1e-4)
    run = [made.traced.get_submodule(node.target) for node in made.traced.graph.nodes if node.op == "call_module"]
    norms, before = (sum(isinstance(m, nn.BatchNorm2d) for m in each) for each in (run, model.network.modules()))
    assert norms < before  # those behind a pooling stay; the model itself stays as it is


@torch.inference_mode()
def test_bf16_keeps_its_weights_and_gives_the_bits_of_autocast(model):
    runtime, images = Runtime(CPU, "bf16"), torch.randn(4, 3, 16, 16)
    made = folded(model.network, runtime)
    kept = {module.weight.dtype for module in made.modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert torch.bfloat16 in kept
    plain = folded(model.network, FP32).to(memory_format=runtime.memory_format)
    with runtime.autocast():
        assert torch.equal(made(images), plain(images))
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}


class Branching(nn.Module):
    """A network whose code needs values, so that it cannot be traced."""

    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))


def test_what_cannot_be_traced_stays():
    network = Branching()
    assert folded(network, FP32) is network


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_other_libraries_compute_the_same(engine, model, cache, monkeypatch):
    pytest.importorskip(engine)
    made, images = choice.accelerated(model, FP32, engine, 1), torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(made(images), model(images), atol=1e-5, rtol=1e-4)
    assert len(list(cache.iterdir())) == (2 if engine == "openvino" else 1)
    # The second time it comes from the cache, which other weights are not in
    encoded = converted._onnx
    monkeypatch.setattr(converted, "_onnx", None)
    again = choice.accelerated(model, FP32, engine, 1)
    assert torch.equal(again(images), made(images))
    with torch.no_grad():
        model.network.classifier.bias += 1
    del model.__dict__["hash"]
    with pytest.raises(TypeError):
        choice.accelerated(model, FP32, engine, 1)
    # What is damaged is made again
    monkeypatch.setattr(converted, "_onnx", encoded)
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    with torch.no_grad():
        model.network.classifier.bias -= 1
    del model.__dict__["hash"]
    torch.testing.assert_close(choice.accelerated(model, FP32, engine, 1)(images), made(images), atol=1e-5, rtol=1e-4)


def test_the_cache_keeps_what_was_used_last(model, cache, monkeypatch):
    monkeypatch.setattr(converted, "KEPT", 1)
    network, example = model.network, torch.zeros(2, 3, 16, 16)
    converted.by_onnxruntime(network, example, FP32, "first")
    (first,) = cache.iterdir()
    converted.by_onnxruntime(network, example, FP32, "second")
    (second,) = cache.iterdir()
    assert first != second


def test_auto_goes_by_the_number_of_images(monkeypatch):
    monkeypatch.setattr(optional_packages, "missing", lambda _: [])
    assert choice.chosen("auto", FP32, choice.ENOUGH) == "openvino"
    assert choice.chosen("auto", FP32, choice.ENOUGH - 1) == "torch"
    assert choice.chosen("auto", Runtime(torch.device("cuda"), "fp32"), 10**6) == "torch"
    monkeypatch.setattr(optional_packages, "missing", lambda _: ["openvino"])
    assert choice.chosen("auto", FP32, 10**6) == "torch"


def test_an_engine_that_cannot_compute_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="computes on the processor"):
        choice.chosen("onnxruntime", Runtime(torch.device("cuda"), "fp32"), 1)
    with pytest.raises(UsageError, match="not in bf16"):
        choice.chosen("onnxruntime", Runtime(CPU, "bf16"), 1)
    monkeypatch.setattr(optional_packages, "EXTRAS", {"openvino": ("no_such_package",)})
    with pytest.raises(UsageError, match="pip install no_such_package"):
        choice.chosen("openvino", FP32, 1)


def test_a_network_without_a_form_in_onnx_is_an_error(model):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.matrix_exp(x).mean((2, 3))

    with pytest.raises(MlcliError, match="ONNX has no form for this network"):
        converted.by_onnxruntime(Odd(), torch.zeros(2, 3, 16, 16), FP32, None)


def test_few_images_are_computed_as_they_were(model):
    assert choice.accelerated(model, FP32, "torch", choice.FEW - 1) is model
    assert choice.accelerated(model, FP32, "torch", choice.FEW).network is not model.network
