"""Features computed once, the solved layer inside the network, and what tuning changes and what it leaves."""

import pytest
import torch

from mlcli.data.image_dataset import ImageDataset
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.methods.learning import configs
from mlcli.methods.learning.finetuning import Features, FineTuning, Transfer, draw_copies, most_copies, with_last_layer
from mlcli.methods.learning.linear_head import Problem, solve
from mlcli.models import last_layer, registry
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from tests.in_memory import dataset
from tests.untrained import translated

CPU = torch.device("cpu")
FP32 = Runtime(CPU, "fp32")
CONFIG = configs.Finetune(batch_size=8, epochs=2)


def images(count: int = 24) -> ImageDataset:
    """Dark and bright noise."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 128, (count, 3, 16, 16), generator=random) + 127 * labels[:, None, None, None]
    return dataset(pixels.to(torch.uint8), labels)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    model = registry.create("cifarnet", ("a", "b", "c"), 16)
    model.network.eval().requires_grad_(False)
    return model


def test_each_view_of_a_image_goes_through_the_network_once(model, tmp_path):
    data, seen = images(), []
    features = Features(model, FP32)
    conv = features.inputs.activations.extractor.conv1.conv
    handle = conv.register_forward_hook(lambda *a: seen.append(len(a[1][0])))
    arguments = data, CONFIG, tmp_path, "training", Processes(CPU)
    first = features.of(*arguments, copies=2)
    assert first.shape == (24, 3, 384) and sum(seen) == 72
    assert torch.equal(features.of(*arguments, copies=2), first) and sum(seen) == 72, "kept in files"
    handle.remove()
    assert torch.allclose(first[:, 0], features(data.pixels), atol=1e-5)
    assert torch.allclose(first[:, 1], features(data.pixels.flip(3)), atol=1e-5), "the first copy is flipped"
    assert not torch.allclose(first[:, 2], first[:, 0], atol=1e-3)


def test_copies_are_as_many_as_differ():
    assert most_copies(configs.Finetune(copies=5)) == 5
    assert most_copies(configs.Finetune(copies=5, shift=0)) == 1
    assert most_copies(configs.Finetune(copies=5, shift=0, flip=False)) == 0
    drawn = draw_copies(300, 16, configs.Finetune(flip=False, shift=2), 2)
    assert not any(flips.any() for flips, _ in drawn)
    assert all(shifts[:2].unique().tolist() == [-2, -1, 0, 1, 2] and not shifts[2:].any() for _, shifts in drawn)
    assert not torch.equal(drawn[0][1], drawn[1][1])


@pytest.mark.parametrize("behind", [False, True])
def test_the_network_with_the_solved_layer_says_what_the_solver_says(model, behind):
    model = translated("resnet-6") if behind else model
    data, features = images(), Features(model, FP32)
    x = features(data.pixels)
    (solved,) = solve(Problem(x[:, None], data.labels, 2), (1e-3,))
    result = with_last_layer(model, features.head, solved, ("dark", "bright"))
    assert result.classes == ("dark", "bright") and model.classes == ("a", "b", "c")
    with torch.inference_mode():
        told = result(data.pixels).softmax(1).double()
    assert torch.allclose(told, solved.probabilities(x), atol=1e-4) and (told.argmax(1) == data.labels).all()
    first = [
        network.get_parameter(("network." if behind else "") + "conv1.conv.weight")
        for network in (result.network, model.network)
    ]
    assert torch.equal(*first)


@pytest.mark.parametrize("name, head", [("resnet18", "fc"), ("mobilenet_v3_small", "classifier.3")])
def test_the_last_layer_of_other_architectures(name, head):
    model = registry.create(name, ("a", "b"), 64)
    features = Features(model, FP32)
    assert features.head.address == head
    (width,) = features.layer.shape
    solved = solve(Problem(torch.randn(6, 1, width), torch.arange(6) % 3, 3), (1.0,))[0]
    changed = with_last_layer(model, features.head, solved, ("x", "y", "z"))
    assert torch.allclose(changed.network.get_submodule(head).weight.double(), solved.weight, atol=1e-6)


def test_a_network_without_a_linear_last_layer_is_refused():
    with pytest.raises(UsageError, match="squeezenet1_1: its last layer, classifier.1"):
        Features(registry.create("squeezenet1_1", ("a", "b"), 64), FP32)


def test_rates_fall_from_stage_to_stage_and_frozen_layers_stay(model):
    config = configs.Finetune(freeze="conv2", lr=1e-3, decay=0.1, batch_size=8)
    network = last_layer.with_classes(model, ("dark", "bright"))
    method = FineTuning(network, images(), config, 6, FP32, Processes(CPU))
    (optimizer,) = method.optimizers
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    net = network.network
    assert rate[id(net.classifier.weight)] == pytest.approx(1e-3)
    assert rate[id(net.conv5.conv.weight)] == pytest.approx(1e-4)
    assert rate[id(net.conv3[1].conv.weight)] == pytest.approx(1e-6)
    assert decays[id(net.conv5.conv.weight)] == config.weight_decay and decays[id(net.conv5.norm.weight)] == 0
    assert id(net.conv2[1].conv.weight) not in rate and id(net.conv1.conv.weight) not in rate
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for step in range(3):
        method.step(method.load(torch.arange(8), step), step)
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"classifier.weight", "conv5.conv.weight", "conv3.0.conv.weight"} <= changed
    assert not any(name.startswith(("conv1", "conv2")) or "running" in name for name in changed)


def test_a_network_of_tensorflow_keeps_its_lower_stages_and_all_statistics():
    model = registry.create("efficientnet_lite0", ("dark", "bright"), 32)
    config = configs.Finetune(freeze="conv4", batch_size=8)
    data = images(8)
    data.pixels, data.size = data.pixels.repeat(1, 1, 2, 2), 32
    method = FineTuning(model, data, config, 6, FP32, Processes(CPU))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    method.step(method.load(torch.arange(8), 0), 0)
    changed = {name for name, tensor in model.network.state_dict().items() if not tensor.equal(before[name])}
    assert {"classifier.weight", "conv_head.weight", "bn2.weight"} <= changed
    assert not any("running" in name or name.startswith(("conv_stem", "blocks.0", "blocks.4")) for name in changed)


@pytest.mark.parametrize("tested, every", [(8, 2), (16, 2), (17, 4), (40, 6)])
def test_figures_take_no_longer_than_the_training(tested, every, model):
    """A pass over the training images is two steps; of more images to test on there are figures more rarely."""
    seen = []
    data, config = images(16), configs.Finetune(freeze="conv4", batch_size=8)
    transfer = Transfer(Features(model, FP32), ("dark", "bright"), data, images(tested), config, Processes(CPU),
                        lambda run, method, plan: seen.append(plan))  # fmt: skip
    transfer._train(FineTuning, last_layer.with_classes(model, ("dark", "bright")), config, None)
    assert seen[0].evaluate_every == every


def test_an_end_that_leaves_nothing_free_is_refused(model):
    with pytest.raises(UsageError, match="leaves no parameter to tune"):
        FineTuning(model, images(), configs.Finetune(freeze="classifier"), 6, FP32, Processes(CPU))


def test_a_rare_class_weighs_as_much_as_a_common_one(model):
    data = images(16)
    data.labels = torch.tensor([0] * 12 + [1] * 4)
    network = last_layer.with_classes(model, ("dark", "bright"))
    config = configs.Finetune(freeze="none", batch_size=16, balanced=True, lr=0.0)
    method = FineTuning(network, data, config, 6, FP32, Processes(CPU))
    batch = method.load(torch.arange(16), 0)
    with torch.no_grad():
        network.network.eval()
        each = torch.nn.functional.cross_entropy(network(batch.images), batch.labels, reduction="none")
    expected = (each[:12].mean() + each[12:].mean()) / 2
    assert method.step(batch, 0)["loss"].item() == pytest.approx(expected.item(), abs=1e-5)


class Asks(torch.nn.Module):
    """Cannot be traced: it goes one way or another by the values of the image."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 2)

    def forward(self, x):
        maps = self.conv(x)
        return self.head((maps if maps.sum() > 0 else -maps).amax((2, 3)))


def test_a_network_that_cannot_be_traced_is_finetuned_by_what_its_last_layer_is_given():
    torch.manual_seed(0)
    model = Model("asks", Asks().eval(), ("a", "b"), Preprocessing(crop=16), "asks")
    features, data = Features(model, FP32), images(4)
    assert (features.head.address, features.layer.shape) == ("head", (8,))
    with torch.inference_mode():
        assert torch.allclose(model.network.head(features(data.pixels)), model(data.pixels), atol=1e-6)
    assert not model.network.head._forward_pre_hooks and not model.network.head._forward_hooks


def test_two_heads_are_refused():
    with pytest.raises(UsageError, match="head_dist"):
        Features(registry.create("timm/levit_128s", ("a", "b"), 224), FP32)
