"""CyCADA: what semantic consistency adds to CycleGAN's loss; its stages alone."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mlcli.data.pairs import ImageSpec
from mlcli.methods.adaptation import cycada
from mlcli.methods.adaptation.context import frozen
from mlcli.methods.adaptation.registry import Cycada
from mlcli.methods.generation import translation
from mlcli.methods.generation.cyclegan import CycleGAN
from tests import shapes

SMALL = Cycada(
    source_steps=10, steps=4, batch_size=10, candidates=2, pixel_steps=4, pixel_batch=4, filters=4, hidden=16
)


def test_the_semantic_terms_are_added_to_those_of_cyclegan(tmp_path):
    context = shapes.context(tmp_path, replace(SMALL, semantic=2.0))
    f = frozen(context.new_model())
    torch.nn.init.normal_(f.network.classifier.weight, generator=torch.Generator().manual_seed(2))
    method = cycada.PixelStage(context, f)
    a, b = (each.float() / 127.5 - 1 for each in method.data.batch(torch.arange(4)))
    terms, made = method.generate(a, b)
    plain, _ = CycleGAN.generate(method, a, b)
    for name, value in plain.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5)
    answers = []
    with torch.no_grad():
        for side, before, after in (("A", a, made["AtoB"]), ("B", b, made["BtoA"])):
            wanted = f(before * 0.5 + 0.5).argmax(1)
            logits = f(after * 0.5 + 0.5)
            answers.append(wanted.tolist())
            expected = -2 * F.log_softmax(logits, 1)[torch.arange(4), wanted].mean()
            assert terms[f"loss_semantic_{side}"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert answers[0] != answers[1]
    terms["loss_semantic_A"].backward()
    grads = [p.grad for p in method.generators["AtoB"].parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in grads) and all(
        p.grad is None for p in f.network.parameters()
    )


@pytest.mark.parametrize(
    "stage, names",
    [
        ("pixel", {"source", "translator", "adapted"}),
        ("feature", {"source", "adapted"}),
        ("both", {"source", "translator", "pixel", "feature", "adapted"}),
    ],
)
def test_stages(stage, names, tmp_path):
    adapted = cycada.adapt(shapes.context(tmp_path, replace(SMALL, stage=stage)))
    assert {run.folder.name for run in adapted.stages} == names == {path.name for path in tmp_path.iterdir()}
    assert bool(adapted.alone) == (stage == "both") and (adapted.to_target is None) == (stage == "feature")


@pytest.mark.parametrize(
    "size, asked, generator",
    [
        (16, None, "unet"),
        (24, None, "unet"),
        (28, None, "resnet-6"),
        (20, None, "resnet-6"),
        (16, "resnet-9", "resnet-9"),
    ],
)
def test_small_images_are_translated_by_connections_across(size, asked, generator, tmp_path):
    source = shapes.domain(6)
    source = source.with_images(torch.zeros(6, 1, size, size, dtype=torch.uint8))
    options = replace(SMALL, generator=asked)
    config = shapes.context(tmp_path, options, source).cyclegan(options, lr=1e-3, batch_size=4)
    assert config.generator == generator
    assert translation.generator(config, ImageSpec(1), ImageSpec(1))(source.images).shape == (6, 1, size, size)
