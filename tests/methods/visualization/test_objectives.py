import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from mlcli.errors import UsageError
from mlcli.methods.visualization import objectives
from mlcli.methods.visualization.objective_parser import parse
from mlcli.methods.visualization.objectives import PENALTIES, WARM_UP, Batch, Objective, Term, interpolation
from mlcli.models import registry
from mlcli.models.structure.features import Activations
from mlcli.models.structure.graph import Layer, ReceptiveField

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog", "hot rod"], 32)
    model.network.eval().requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def value(model, texts, images, groups=None):
    each = [parse(text, model)[0] for text in texts]
    batch = Batch(each, groups or [0] * len(each), CPU)
    activations = Activations(model, batch.addresses)(images) if batch.addresses else {}
    return batch(activations, images)


def test_penalties_by_hand():
    image = torch.tensor([[[0.0, 1.0, 1.0], [0.5, 1.0, 0.0]]])[None]
    # Differences down 0.5, 0, 1; across 1, 0, 0.5, 1
    assert PENALTIES["tv"](image).item() == pytest.approx(1.5 / 3 + 2.5 / 4)
    assert PENALTIES["l1"](image).item() == pytest.approx(2.5 / 6)
    assert PENALTIES["l2"](image).item() == pytest.approx(1.25 / 6)
    dot = torch.zeros(1, 1, 5, 5)
    dot[..., 2, 2] = 1
    smooth = [1 / 4, 1 / 8, 1 / 16]
    assert PENALTIES["blur"](dot).item() == pytest.approx(((1 - smooth[0]) ** 2 + 4 / 64 + 4 / 256) / 25)


def test_diversity_is_the_mean_cosine_of_gram_matrices_within_a_group():
    maps = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    found = objectives.diversity(maps, torch.tensor([0, 0, 0, 1, 2]))
    grams = [(m.double() @ m.double().T).flatten() for m in maps]
    cos = [[float(a @ b / (a.norm() * b.norm())) for b in grams] for a in grams]
    expected = [(cos[0][1] + cos[0][2]) / 2, (cos[1][0] + cos[1][2]) / 2, (cos[2][0] + cos[2][1]) / 2, 0, 0]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    same = objectives.diversity(maps[:1].expand(2, -1, -1), torch.tensor([7, 7]))
    assert same.tolist() == pytest.approx([1, 1])


def test_each_image_has_its_own_objective(model, images):
    maps = Activations(model, ["conv3", "conv4"])(images)
    conv3, conv4 = maps["conv3"], maps["conv4"]
    logits = model(images)
    texts = ["conv4:12 + 0.5*conv4:7 - 2*tv", "conv4:9@center", "3*(logit:'hot rod' + conv3:5@2,6)"]
    expected = [
        conv4[0, 12].mean() + 0.5 * conv4[0, 7].mean() - 2 * PENALTIES["tv"](images[:1])[0],
        conv4[1, 9, 2, 2],
        3 * (logits[2, 2] + conv3[2, 5, 6, 2]),
    ]
    assert torch.allclose(value(model, texts, images), torch.stack(expected), atol=1e-5)
    assert torch.allclose(value(model, ["conv3"] * 3, images), conv3.square().mean((1, 2, 3)), atol=1e-6)
    together = value(model, ["diversity(conv4)"] * 3, images, [0, 0, 1])
    assert together.tolist() == pytest.approx(objectives.diversity(conv4.flatten(2), torch.tensor([0, 0, 1])).tolist())


def test_units_that_are_last():
    maps = torch.rand(3, 4, 5, 6)  # rows, columns, units
    layer = Layer("x", "permute", (4, 5, 6), ReceptiveField(1, 1, 0, 0, 1, planes=False), 0, False)
    batch = Batch([Objective(((1.0, Term("x:2@3,1", "unit", layer, 2, (3, 1))),))] * 3, [0] * 3, CPU)
    assert torch.equal(batch({"x": maps, "x@signed": maps}, torch.rand(3, 3, 8, 8)), maps[:, 1, 3, 2])
    with pytest.raises(UsageError, match="columns 0 to 4 and the rows 0 to 3"):
        far = Term("x:2@3,4", "unit", layer, 2, (3, 4))
        Batch([Objective(((1.0, far),))], [0], CPU).check_positions({"x": maps})
    tokens = torch.rand(3, 7, 6)
    layer = Layer("x", "add", (7, 6), ReceptiveField(1, 1, 0, 0, 1), 0, False)
    batch = Batch([Objective(((1.0, Term("x:2", "unit", layer, 2)),))] * 3, [0] * 3, CPU)
    assert torch.allclose(batch({"x": tokens, "x@signed": tokens}, torch.rand(3, 3, 8, 8)), tokens[:, :, 2].mean(1))


def test_what_is_to_fall_is_read_before_the_relu(model, images):
    signed = Activations(model, ["conv4@signed"])(images)["conv4@signed"][:, 3].mean((1, 2))
    assert torch.allclose(value(model, ["-conv4:3"] * 3, images), -signed, atol=1e-6)
    assert torch.allclose(value(model, ["tv - 2*conv4:3"] * 3, images), PENALTIES["tv"](images) - 2 * signed)


@pytest.mark.parametrize("module", [nn.ReLU6(), nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU6()), BatchNormAct2d(6)])
def test_a_relu6_is_read_past_its_end(module):
    if isinstance(module, BatchNormAct2d):
        module.act = nn.ReLU6()
    signed = (20 * torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    layer = Layer("x", "any", (6, 4, 4), ReceptiveField(1, 1, 0, 0, 1), 0, True, module=module)
    terms = [Term("x:2", "unit", layer, 2), Term("x:2@1,3", "unit", layer, 2, (1, 3))]
    batch = Batch([Objective(((1.0, term),)) for term in terms], [0, 0], CPU)
    values = batch({"x": signed.clamp(0, 6), "x@signed": signed}, torch.rand(2, 3, 8, 8))
    assert values.tolist() == pytest.approx([signed[0, 2].relu().mean().item(), signed[1, 2, 3, 1].relu().item()])
    values[0].backward()
    assert (signed.grad[0, 2] > 0).equal(signed[0, 2] > 0) and (signed[0, 2] > 6).any()
    energy = Batch([Objective(((1.0, Term("x", "layer", layer)),))] * 2, [0, 0], CPU)
    found = energy({"x": signed.clamp(0, 6), "x@signed": signed}, torch.rand(2, 3, 8, 8))
    assert torch.allclose(found, signed.relu().square().mean((1, 2, 3)))


def test_the_negative_part(model, images):
    signed = Activations(model, ["conv1@signed"])(images)["conv1@signed"][:, 3]
    expected = -signed.clamp(max=0).mean((1, 2))
    assert (signed > 0).any() and (expected > 0).all()
    assert torch.allclose(value(model, ["negative(conv1:3)"] * 3, images), expected, atol=1e-6)
    found = value(model, ["tv - 2*negative(conv1:3@1,0)"] * 3, images)
    assert torch.allclose(found, PENALTIES["tv"](images) - 2 * (-signed[:, 0, 1]).relu(), atol=1e-6)


@pytest.mark.parametrize("text", ["conv4:3", "conv4:3@center", "conv4", "negative(conv4:3)"])
def test_gradient_passes_the_relu_of_what_is_silent_at_the_start_alone(text, images):
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 32)
    model.network.eval().requires_grad_(False)
    last = [m for m in model.network.conv4.modules() if isinstance(m, torch.nn.BatchNorm2d)][-1]
    last.bias.fill_(100 if text.startswith("negative") else -100)
    batch = Batch(parse(text, model) * 3, [0] * 3, CPU)
    activations = Activations(model, batch.addresses)
    for step, passes in ((0, True), (WARM_UP - 1, True), (WARM_UP, False)):
        leaf = images.clone().requires_grad_()
        values = batch(activations(leaf), leaf, step)
        values.sum().backward()
        assert values.tolist() == [0, 0, 0] and bool((leaf.grad.abs().amax((1, 2, 3)) > 0).all()) == passes


def test_the_start_changes_nothing_for_a_unit_that_answers(model, images):
    batch = Batch(parse("conv4:12 + logit:cat", model) * 3, [0] * 3, CPU)
    activations = Activations(model, batch.addresses)
    gradients = []
    for step in (0, WARM_UP):
        leaf = images.clone().requires_grad_()
        batch(activations(leaf), leaf, step).sum().backward()
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients)


def test_interpolation(model):
    a, b = parse("conv4:1 - 2*tv", model)[0], parse("-conv4:5", model)[0]
    weights = [[factor for factor, _ in each.terms] for each in interpolation(a, b, 3)]
    assert weights == [[1, -2, 0], [0.5, -1, -0.5], [0, 0, -1]]
    assert str(interpolation(a, b, 3)[1]) == "0.5*conv4:1 - tv - 0.5*conv4:5"
