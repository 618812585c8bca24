"""ADDA: a step against a plain reckoning, what stays fixed, a run that gains on a shifted domain."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlcli.methods.adaptation import adda, encoder
from mlcli.methods.adaptation.context import probabilities
from mlcli.methods.adaptation.registry import Adda
from mlcli.training.run_folder import Run
from tests import shapes

SMALL = Adda(source_steps=60, steps=150, batch_size=30, candidates=5, shift=1, hidden=64)


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    context = shapes.context(tmp_path_factory.mktemp("adda"), SMALL)
    f = context.new_model()
    f.network.eval().requires_grad_(False)
    return adda.ADDA(context, f, context.source, Run(tmp_path_factory.mktemp("run")))


def test_target_images_are_shifted_by_a_pixel_at_most_and_differently_at_each_step(method):
    chosen, still = torch.arange(30), method.context.target.images[:30]
    once, again, later = (method.load(chosen, step)[1] for step in (3, 3, 4))
    assert torch.equal(once, again) and not torch.equal(once, later)
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    found = [
        [torch.equal(own.roll((down, right), (1, 2))[:, 2:-2, 2:-2], seen[:, 2:-2, 2:-2]) for down, right in moves]
        for own, seen in zip(still, once, strict=True)
    ]
    assert all(map(any, found)) and len({each.index(True) for each in found}) > 4


def test_a_step_is_the_published_one(method):
    """Two-way cross-entropy of d, then the inverted label for the encoder, which the updated d classifies."""
    batch = method.load(torch.arange(30), 0)
    network, d = copy.deepcopy(method.model.network), copy.deepcopy(method.d)
    head = network.classifier
    encoder = [p for p in network.parameters() if not any(p is q for q in head.parameters())]
    adams = [torch.optim.Adam(list(each), 2e-4, betas=(0.5, 0.999)) for each in (d.parameters(), encoder)]

    def features(images):
        x = (images.float() / 255 - 0.5) / 0.25
        for convolution in (network.conv1, network.conv2):
            x = F.relu(F.max_pool2d(convolution(x), 2))
        return F.relu(network.hidden(x.flatten(1)))

    of_source, of_target = batch[0], features(batch[1])
    ones, zeros = torch.ones(30, 1), torch.zeros(30, 1)
    cross = nn.functional.binary_cross_entropy_with_logits
    loss_d = cross(d(of_source), ones) + cross(d(of_target.detach()), zeros)
    loss_d.backward()
    adams[0].step()
    loss_f = cross(d(of_target), ones)
    loss_f.backward()
    adams[1].step()

    losses = method.step(batch, 0)
    assert losses["loss_d"].item() == pytest.approx(loss_d.item(), rel=1e-5)
    assert losses["loss_f"].item() == pytest.approx(loss_f.item(), rel=1e-5)
    for ours, plain in ((method.d, d), (method.model.network, network)):
        for name, weights in plain.state_dict().items():
            assert torch.allclose(ours.state_dict()[name], weights, atol=2e-5), name


def test_the_source_features_are_those_of_the_fixed_encoder(method):
    f = method.context.new_model()
    with encoder.penultimate(f.network) as caught:
        f(method.source.images[:7])
    assert torch.allclose(method.source_features[:7], caught[0], atol=1e-5) and caught[0].shape == (7, 500)


def test_the_encoder_waits_while_the_discriminator_is_not_in_the_lead(tmp_path):
    context = shapes.context(tmp_path, replace(SMALL, accuracy_threshold=1.01))
    f = context.new_model()
    f.network.eval().requires_grad_(False)
    method = adda.ADDA(context, f, context.source, Run(tmp_path / "run"))
    before, d = copy.deepcopy(method.model.network.state_dict()), copy.deepcopy(method.d.state_dict())
    method.step(method.load(torch.arange(30), 0), 0)
    assert all(torch.equal(before[name], value) for name, value in method.model.network.state_dict().items())
    assert not all(torch.equal(d[name], value) for name, value in method.d.state_dict().items())


def test_it_gains_on_a_shifted_domain_and_leaves_the_source_model_alone(tmp_path):
    context = shapes.context(tmp_path, SMALL)
    adapted = adda.adapt(context)
    test = shapes.domain(150, 7, target=True)
    right = [
        (probabilities(model, test.images, context.runtime).argmax(1) == test.labels).float().mean().item()
        for model in (adapted.source_only, adapted.model)
    ]
    assert right[1] > right[0] + 0.1, right
    own = [model.network.classifier.weight for model in (adapted.source_only, adapted.model)]
    assert torch.equal(*own), "f_2 is of the source"
    assert len(adapted.candidates.scores) == 5
