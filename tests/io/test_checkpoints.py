"""What training scripts save, opened as `--weights` does; the network is timm's smallest residual one."""

import argparse
import collections
import pathlib
import pickle
import sys
import types

import numpy
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mlcli.errors import RunError, WeightsError
from mlcli.io import checkpoints
from mlcli.models import artifacts, registry
from mlcli.models.fitting import fitted

NAME = "timm/test_resnet"
CLASSES = 7
HARMED = "harmed"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return registry.create(NAME, list("abcdefg"), 64).network.eval()


@pytest.fixture(scope="module")
def other(network):
    """The same network after more steps."""
    torch.manual_seed(1)
    return registry.create(NAME, list("abcdefg"), 64).network.eval()


def prefixed(network, prefix):
    return {f"{prefix}{key}": tensor for key, tensor in network.state_dict().items()}


def optimizer(network):
    made = torch.optim.AdamW(network.parameters())
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    made.step()
    return made.state_dict()


@pytest.fixture(scope="module")
def opened():
    """What `--model test_resnet --weights FILE` does with a file before the classes are read."""
    target = registry.load(NAME, untrained=True).network
    return lambda file: fitted(artifacts.read(file).tensors, target, file)


def same(tensors, network):
    """Whether the tensors are the network's: all of them, but for counters that may lack."""
    own = network.state_dict()
    lacking = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    return not lacking and all(torch.equal(own[key], tensor) for key, tensor in tensors.items())


OPTIONS = argparse.Namespace(lr=0.1, output_dir=pathlib.Path("runs"), model="test_resnet", betas=(0.9, 0.999))


def training_script_of_torchvision(network, other):
    average = torch.optim.swa_utils.AveragedModel(other)  # module.… and n_averaged
    return {
        "model": network.state_dict(), "optimizer": {"state": {}}, "lr_scheduler": {"last_epoch": 3}, "epoch": 3,
        "args": OPTIONS, "model_ema": average.state_dict(), "scaler": {"scale": 65536.0},
    }  # fmt: skip


def training_script_of_timm(network, other):
    return {
        "epoch": 3, "arch": "test_resnet", "state_dict": network.state_dict(), "optimizer": {}, "version": 2,
        "args": OPTIONS, "amp_scaler": {}, "state_dict_ema": other.state_dict(), "metric": numpy.float64(71.2),
    }  # fmt: skip


def lightning(network, other):
    return {
        "epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.4.0",
        "state_dict": prefixed(network, "model.") | {"criterion.weight": torch.ones(CLASSES)},
        "hyper_parameters": {"lr": 0.1, "root": pathlib.PurePosixPath("data")}, "hparams_name": "kwargs",
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [{"state": {}, "param_groups": []}], "lr_schedulers": [], "loops": {},
    }  # fmt: skip


def lightning_compiled_with_average(network, other):
    return {"state_dict": prefixed(network, "net._orig_mod.") | prefixed(other, "ema_net.module.")}


def example_of_imagenet(network, other):
    return {
        "epoch": 3, "arch": "test_resnet", "state_dict": prefixed(network, "module."),
        "best_acc1": torch.tensor(71.2), "optimizer": {}, "scheduler": {},
    }  # fmt: skip


def every_plain_container(network, other):
    counts = collections.defaultdict(list)
    counts["loss"].append(numpy.float32(0.5))
    return {
        "weights": collections.OrderedDict(network.state_dict()), "counts": counts, "shape": torch.Size([1, 2]),
        "names": types.SimpleNamespace(a=1), "paths": [pathlib.Path("a"), pathlib.PureWindowsPath("b")],
        "set": {1, 2}, "array": numpy.arange(3.0), "integer": numpy.int64(3), "truth": numpy.bool_(True),
        "torch": torch.__version__, "device": torch.device("cpu"), "dtype": torch.float16, "complex": 1j,
        "factories": [collections.defaultdict(kind) for kind in (int, float, dict, set, str)],
    }  # fmt: skip


FORMS = {
    "state_dict": lambda n, o: n.state_dict(),
    "DataParallel": lambda n, o: nn.DataParallel(n).state_dict(),
    "compiled": lambda n, o: prefixed(n, "_orig_mod."),
    "compiled within DataParallel": lambda n, o: prefixed(n, "module._orig_mod."),
    "backbone of a module": lambda n, o: prefixed(n, "backbone."),
    "encoder and network": lambda n, o: prefixed(n, "encoder.network."),
    "any name": lambda n, o: prefixed(n, "my_classifier.0."),
    "within DataParallel and a module": lambda n, o: prefixed(n, "module.model."),
    "a wrapped part": lambda n, o: {k.replace("layer1.", "layer1.module."): v for k, v in n.state_dict().items()},
    "an extra loss": lambda n, o: prefixed(n, "model.") | {"criterion.weight": torch.ones(3)},
    "counters beside": lambda n, o: {**n.state_dict(), "epoch": 3},
    "in two containers": lambda n, o: {"model": {"state_dict": n.state_dict(), "epoch": 3}, "optimizer": {}},
    "in a container of any name": lambda n, o: {"my_model": n.state_dict(), "optimizer": optimizer(n)},
    "with an optimizer": lambda n, o: {"model_state_dict": n.state_dict(), "optimizer_state_dict": optimizer(n)},
    "net": lambda n, o: {"net": prefixed(n, "module."), "acc": 93.1, "epoch": 3},
    "network": lambda n, o: {"network": n.state_dict()},
    "no average yet": lambda n, o: {"ema": None, "model_ema": {}, "model": n.state_dict()},
    "parameters": lambda n, o: {key: nn.Parameter(t, t.is_floating_point()) for key, t in n.state_dict().items()},
    "no counters": lambda n, o: {k: t for k, t in n.state_dict().items() if not k.endswith("num_batches_tracked")},
    "two names for one": lambda n, o: prefixed(n, "model.") | prefixed(n, "loss.model."),
    "Lightning": lightning,
    "example of ImageNet": example_of_imagenet,
    "plain containers": every_plain_container,
}
AVERAGED = {
    "torchvision": training_script_of_torchvision,
    "timm": training_script_of_timm,
    "ema": lambda n, o: {"model": n.state_dict(), "ema": {"decay": 0.99, "shadow": o.state_dict()}},
    "Lightning, compiled": lightning_compiled_with_average,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_network_is_found(form, opened, network, other, tmp_path):
    torch.save(FORMS[form](network, other), tmp_path / "checkpoint.pth.tar")
    assert same(opened(tmp_path / "checkpoint.pth.tar"), network)


@pytest.mark.parametrize("form", AVERAGED)
def test_of_two_networks_the_average_is_taken(form, opened, network, other, tmp_path):
    torch.save(AVERAGED[form](network, other), tmp_path / "checkpoint.pth")
    assert same(opened(tmp_path / "checkpoint.pth"), other)


def test_an_average_of_the_parameters_alone_does_not_hide_the_network(opened, network, other, tmp_path):
    average = {f"ema.{key}": tensor for key, tensor in other.named_parameters()}
    torch.save(prefixed(network, "model.") | average, tmp_path / "a.ckpt")
    assert same(opened(tmp_path / "a.ckpt"), network)


def test_an_average_without_counters_is_taken_all_the_same(opened, network, other, tmp_path):
    average = {key: t for key, t in prefixed(other, "ema.").items() if not key.endswith("num_batches_tracked")}
    torch.save(prefixed(network, "model.") | average, tmp_path / "a.ckpt")
    assert same(opened(tmp_path / "a.ckpt"), other)


@pytest.mark.parametrize("ending", ["pt", "pth", "bin", "ckpt", "tar", "pth.tar", "model", ""])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_ending_says_nothing(opened, ending, legacy, network, tmp_path):
    file = tmp_path / f"weights.{ending}"
    torch.save({"state_dict": network.state_dict()}, file, _use_new_zipfile_serialization=not legacy)
    assert same(opened(file), network)


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_safetensors_without_a_description(name, network, tmp_path):
    save_file(prefixed(network, "model."), tmp_path / name)
    model = registry.load(NAME, tmp_path / name)
    assert torch.equal(model.network.fc.weight, network.fc.weight) and model.classes == tuple("0123456")
    assert model.weights_file == tmp_path / name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_networks_own(dtype, network, tmp_path):
    halves = {k: t.to(dtype) if t.is_floating_point() else t for k, t in network.state_dict().items()}
    torch.save(halves, tmp_path / "half.pth")
    model = registry.load(NAME, tmp_path / "half.pth")
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert torch.equal(model.network.fc.weight, network.fc.weight.to(dtype).float())


@pytest.mark.parametrize("name", ["yacs.config.CfgNode", "lightning.fabric.utilities.data.AttributeDict"])
def test_configurations_that_are_dicts_by_another_name(opened, name, network, tmp_path, monkeypatch):
    module, _, kind = name.rpartition(".")
    made = type(kind, (dict,), {"__module__": module})
    parents = [module[:end] for end, sign in enumerate(module) if sign == "."]
    for parent in (*parents, module):
        monkeypatch.setitem(sys.modules, parent, types.SimpleNamespace(**{kind: made}))
    config = made(lr=0.1, inner=made(epochs=3))
    config.__dict__["frozen"] = True
    torch.save({"model": network.state_dict(), "config": config}, tmp_path / "a.pth")
    for parent in (*parents, module):
        monkeypatch.delitem(sys.modules, parent)
    assert same(opened(tmp_path / "a.pth"), network)


# -- refused ---------------------------------------------------------------------------------------------------------


class Harm:
    def __reduce__(self):
        return open, (HARMED, "w")


class Sly:
    """Code by way of what is admitted."""

    def __reduce__(self):
        return collections.defaultdict, (Harm(),)


@pytest.mark.parametrize("content", [Harm(), {"a.weight": torch.ones(1), "args": Harm()}, {"model": Sly()}])
@pytest.mark.parametrize("raw", [False, True])
def test_code_in_a_file_is_not_run(opened, content, raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if raw:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, "evil.pth")
    with pytest.raises(WeightsError, match="evil.pth: .*code in it, which is never run"):
        opened("evil.pth")
    assert not (tmp_path / HARMED).exists()


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.Sequential, lambda n: {"epoch": 3, "model": n}])
def test_a_network_saved_whole(opened, wrap, tmp_path):
    torch.save(wrap(nn.Conv2d(3, 8, 3)), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"holds torch\.nn\.[\w.]+, .*never run.*network.state_dict\(\)"):
        opened(tmp_path / "whole.pth")


def test_a_program(opened, tmp_path):
    torch.jit.script(nn.Conv2d(3, 8, 3)).save(tmp_path / "program.pt")
    with pytest.raises(WeightsError, match=r"is a TorchScript program.*network.state_dict\(\)"):
        opened(tmp_path / "program.pt")


@pytest.mark.parametrize(
    "form, names",
    [
        (lambda n, o: {"student": n.state_dict(), "teacher": o.state_dict()}, "student, teacher"),
        (lambda n, o: prefixed(n, "student.") | prefixed(o, "teacher."), "student and teacher"),
        (lambda n, o: n.state_dict() | prefixed(o, "a.") | prefixed(n, "b."), "a and b"),
    ],
)
def test_several_networks_are_named(opened, form, names, network, other, tmp_path):
    torch.save(form(network, other), tmp_path / "two.pth")
    with pytest.raises(WeightsError, match=f"several networks.*{names}.*a file of its own"):
        opened(tmp_path / "two.pth")


@pytest.mark.parametrize(
    "content", [{}, [], 3, {"state_dict": {}}, {"a": {"b": {}}}, {"epoch": torch.tensor(3), "b": 1}]
)
def test_no_network(opened, content, tmp_path):
    torch.save(content, tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=r"no mapping of names to tensors; save the network's state_dict\(\)"):
        opened(tmp_path / "none.pth")


def test_quantized_tensors(network, tmp_path):
    quantized = torch.quantize_per_tensor(network.fc.weight, 0.1, 0, torch.qint8)
    torch.save(network.state_dict() | {"fc.weight": quantized}, tmp_path / "q.pth")
    with pytest.raises(WeightsError, match="fc.weight are quantized"):
        registry.load(NAME, tmp_path / "q.pth")


def test_vgg_of_the_imagenet_example(tmp_path):
    """Whose features alone are within DataParallel."""
    network = torchvision.models.squeezenet1_1(num_classes=3)
    network.features = nn.DataParallel(network.features)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "a.pth.tar")
    model = registry.load("squeezenet1_1", tmp_path / "a.pth.tar")
    assert torch.equal(model.network.features[0].weight, network.features.module[0].weight)


def saved_by_torch(value, file):
    torch.save(value, file)


def pickled(protocol):
    def save(value, file):
        file.write_bytes(pickle.dumps(value, protocol))

    return save


@pytest.mark.parametrize("save", [saved_by_torch, *map(pickled, (0, 2, 4, 5)), lambda _, file: file.write_bytes(b"x")])
def test_a_state_that_is_not_of_this_tool_is_refused_in_one_line(save, tmp_path, recwarn):
    file = tmp_path / "state"
    save({"work": argparse.Namespace(a=numpy.zeros(3))}, file)
    with pytest.raises(RunError, match=f"^{file}: cannot be read.*; --overwrite starts again$") as refused:
        checkpoints.read_state(file, file)
    assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value) and not recwarn.list


def test_a_state_of_this_tool(tmp_path):
    torch.save({"step": 3, "work": {"a": torch.ones(2)}}, tmp_path / "state")
    with open(tmp_path / "state", "rb") as opened:
        state = checkpoints.read_state(opened, "state")
    assert state["step"] == 3 and state["work"]["a"].tolist() == [1, 1]
