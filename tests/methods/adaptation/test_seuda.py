"""SeUDA: its terms, the source model that stays as it is, batch norms included."""

from dataclasses import replace

import pytest
import torch

from mlcli.methods.adaptation import seuda
from mlcli.methods.adaptation.context import frozen, probabilities
from mlcli.methods.adaptation.registry import Seuda
from mlcli.methods.generation.cyclegan import CycleGAN
from tests import shapes

SMALL = Seuda(source_steps=20, steps=6, batch_size=6, candidates=2, filters=4, model="digits")


@pytest.fixture
def method(tmp_path):
    context = shapes.context(tmp_path, SMALL)
    return seuda.SeUDA(context, frozen(context.new_model()), context.stage("adapted"))


def test_the_terms_are_cyclegans_with_half_the_way_back_and_the_masks_judgment(method):
    a, b = (each.float() / 127.5 - 1 for each in method.data.batch(torch.arange(4)))
    terms, made = method.generate(a, b)
    plain, _ = CycleGAN.generate(method, a, b)
    for name, value in plain.items():
        factor = 0.5 if name == "loss_gan_BtoA" else 1
        assert terms[name].item() == pytest.approx(factor * value.item(), rel=1e-5), name
    p = method.f(made["BtoA"] * 0.5 + 0.5).softmax(1)
    scores = method.mask_discriminator(p[:, :, None, None])
    assert terms["loss_semantic"].item() == pytest.approx(0.5 * (scores - 1).square().mean().item(), rel=1e-4)
    assert torch.allclose(method.last_masks[1][:, :, 0, 0], p, atol=1e-6)
    information = (p.mean(0) * p.mean(0).log()).sum() - (p * p.log()).sum(1).mean()
    assert terms["loss_information"].item() == pytest.approx(information.item(), rel=1e-4)


def test_the_source_model_stays_as_it_is_while_the_rest_learns(method):
    before = {name: value.clone() for name, value in method.f.network.state_dict().items()}
    weights = [p.clone() for p in method.mask_discriminator.parameters()]
    for step in range(3):
        method.step(method.load(torch.arange(6), step), step)
        method.evaluate()
    after = method.f.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) and not method.f.network.training
    assert any(not torch.equal(p, q) for p, q in zip(weights, method.mask_discriminator.parameters(), strict=True))


def test_the_adapted_model_is_the_source_model_of_translated_images(tmp_path):
    context = shapes.context(tmp_path, replace(SMALL, model="lenet"))
    adapted = seuda.adapt(context)
    told = adapted.facts["source_model"]
    assert told["before"] == told["after"] == adapted.source_only.hash
    images = context.target.images[:5]
    translated = adapted.translator(images)
    expected = probabilities(adapted.source_only, translated, context.runtime)
    assert torch.allclose(probabilities(adapted.model, images, context.runtime), expected, atol=1e-4)
