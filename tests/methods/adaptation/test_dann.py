"""DANN: the gradient reversal layer and a step against plain reckonings, its schedules, a run that gains."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from mlcli.methods.adaptation import dann
from mlcli.methods.adaptation.context import frozen, probabilities
from mlcli.methods.adaptation.registry import Dann
from mlcli.training.run_folder import Run
from tests import shapes

SMALL = Dann(source_steps=60, steps=150, batch_size=30, candidates=5, shift=1, hidden=64)


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    context = shapes.context(tmp_path_factory.mktemp("dann"), SMALL)
    return dann.DANN(context, frozen(context.new_model()), Run(tmp_path_factory.mktemp("run")))


def test_the_reversed_gradient_by_hand():
    """Of sum (w x)^2 behind the layer: 2 w (w x) for w, and -0.7 times 2 w^2 x for x."""
    x = torch.tensor([[1.5, -2.0], [0.25, 3.0]], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([0.5, -1.25], dtype=torch.float64, requires_grad=True)
    passed = dann.reversed_gradient(x, 0.7)
    assert torch.equal(passed, x)
    (w * passed).square().sum().backward()
    assert torch.allclose(w.grad, (2 * w * x.square()).sum(0), rtol=1e-12)
    assert torch.allclose(x.grad, -0.7 * 2 * w.square() * x, rtol=1e-12)


def test_the_schedules_are_those_of_the_paper():
    assert dann.strength(0) == 0 and dann.strength(1) == pytest.approx(math.tanh(5))
    assert dann.strength(0.2) == pytest.approx(0.761594, abs=1e-6)  # tanh 1
    assert dann.learning_rate(0.01, 0) == 0.01
    assert dann.learning_rate(0.01, 1) == pytest.approx(0.0016556, abs=1e-7)  # 0.01 / 11^0.75


def test_a_batch_holds_both_domains_in_turns(method):
    images, labels = method.load(torch.arange(30), 3)
    source, target = method.context.source, method.context.target
    assert images.shape == (60, 1, 16, 16) and labels.shape == (30,)
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]

    def moved(image, known):
        return any(torch.equal(image[:, 2:-2, 2:-2], known.roll(move, (1, 2))[:, 2:-2, 2:-2]) for move in moves)

    assert all(moved(image, known) for image, known in zip(images[1::2], target.images[:30], strict=True))
    for image, label in zip(images[::2], labels, strict=True):
        assert any(moved(image, known) for known in source.images[source.labels == label])
    again, later = method.load(torch.arange(30), 3), method.load(torch.arange(30), 4)
    assert torch.equal(again[0], images) and not torch.equal(later[0], images)
    names = method.name_batch(torch.arange(30), 3)
    assert len(names) == 60 and names[30:] == target.names(torch.arange(30))


def test_a_step_is_the_published_one(method):
    """The body against d by -lambda, d by the plain gradient, the head by the labels of the source alone."""
    batch, step = method.load(torch.arange(30), 30), 30  # p = 0.2
    network, d = copy.deepcopy(method.model.network), copy.deepcopy(method.d)
    source, target = batch[0][::2], batch[0][1::2]

    def features(images):
        x = (images.float() / 255 - 0.5) / 0.25
        for convolution in (network.conv1, network.conv2):
            x = F.relu(F.max_pool2d(convolution(x), 2))
        return F.relu(network.hidden(x.flatten(1)))

    of_source, of_target = features(source), features(target)
    loss_y = F.cross_entropy(network.classifier(of_source), batch[1])
    cross = F.binary_cross_entropy_with_logits
    loss_d = cross(d(of_source), torch.ones(30, 1)) + cross(d(of_target), torch.zeros(30, 1))
    head = list(network.classifier.parameters())
    body = [p for p in network.parameters() if not any(p is other for other in head)]
    for_body = torch.autograd.grad(loss_y, [*body, *head], retain_graph=True)
    against = torch.autograd.grad(loss_d, [*body, *d.parameters()])
    rate, strength = 0.01 / 3**0.75, math.tanh(1)
    with torch.no_grad():
        for weight, ours, theirs in zip(body, for_body, against, strict=False):
            weight -= rate * (ours - strength * theirs)
        for weight, ours in zip(head, for_body[len(body) :], strict=True):
            weight -= rate * ours
        for weight, theirs in zip(d.parameters(), against[len(body) :], strict=True):
            weight -= rate * theirs

    losses = method.step(batch, step)
    assert losses["loss_y"].item() == pytest.approx(loss_y.item(), rel=1e-5)
    assert losses["loss_d"].item() == pytest.approx(loss_d.item(), rel=1e-5)
    assert (against[0].abs() * strength > 1e-4).any(), "else the sign of the reversal is not seen"
    for ours, plain in ((method.d, d), (method.model.network, network)):
        for name, weights in plain.state_dict().items():
            assert torch.allclose(ours.state_dict()[name], weights, atol=1e-6), name


def test_it_gains_on_a_shifted_domain_and_leaves_the_source_model_alone(tmp_path):
    context = shapes.context(tmp_path, SMALL)
    adapted = dann.adapt(context)
    test = shapes.domain(150, 7, target=True)
    right = [
        (probabilities(model, test.images, context.runtime).argmax(1) == test.labels).float().mean().item()
        for model in (adapted.source_only, adapted.model)
    ]
    assert right[1] > right[0] + 0.1, right
    assert len(adapted.candidates.scores) == 5
