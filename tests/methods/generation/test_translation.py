"""What the adversarial methods share: feature matching by hand, discrimination in one pass, guards, sheets."""

import pytest
import torch
from torch import nn

from mlcli.data.pairs import ImageSpec
from mlcli.methods.generation import configs, translation
from mlcli.networks.patchgan import MultiScale, PatchGAN


def test_feature_matching_by_hand():
    real = [torch.zeros(1, 2, 2, 2), torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 1, 1)]
    fake = [torch.full((1, 2, 2, 2), 0.5), torch.tensor([[[[1.0, 2], [1, 1]]]]), torch.full((1, 1, 1, 1), 99.0)]
    assert translation.feature_matching(real, fake).item() == 0.5 + 0.25, "the logits do not take part"
    assert translation.feature_matching([real, real], [fake, real]).item() == 0.75 / 2


def test_feature_matching_moves_the_generated_side_alone():
    real, fake = (torch.ones(1, 1, 2, 2, requires_grad=True) * k for k in (1, 2))
    sides = [nn.Parameter(each.detach()) for each in (real, fake)]
    translation.feature_matching([sides[0], sides[0]], [sides[1], sides[1]]).backward()
    assert sides[0].grad is None and sides[1].grad.eq(0.25).all()


@pytest.mark.parametrize("scales", [1, 2])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_judged_in_one_pass_as_in_two(scales, norm):
    torch.manual_seed(0)
    each = [PatchGAN(filters=4, layers=1, norm=norm) for _ in range(scales)]
    network = each[0] if scales == 1 else MultiScale(each)
    real, fake = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32) * 3
    judged = translation.discriminate(network, real, fake)
    for outputs, images in zip(judged, (real, fake), strict=True):
        expected = network(images)
        if scales == 1:
            outputs, expected = [outputs], [expected]
        for ours, theirs in zip(outputs, expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_discriminator_accuracy_by_hand():
    real, fake = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.0, 3, 2, 4])
    assert translation.discriminator_accuracy(real, fake).item() == 0.5
    assert translation.discriminator_accuracy([real, real], [fake, real - 1]).item() == 0.75


def test_a_discriminator_that_has_won_or_collapsed_is_told_once():
    monitor = translation.GanMonitor()
    said = [monitor.warning({"d_AtoB_accuracy": 0.6, "d_BtoA_accuracy": 1.0, "loss_d": 0.1}) for _ in range(60)]
    assert [bool(each) for each in said].index(True) == monitor.PATIENCE - 1 and sum(map(bool, said)) == 1
    assert "its opponent learns little" in said[monitor.PATIENCE - 1]
    assert not monitor.warning({"d_accuracy": 0.7})
    again = [monitor.warning({"d_accuracy": 0.0}) for _ in range(monitor.PATIENCE)]
    assert "collapsed" in again[-1] and not any(again[:-1])


def test_batch_norm_over_images_one_at_a_time_is_their_own():
    assert translation.norm(configs.Pix2Pix()) == "instance-affine"
    assert translation.norm(configs.Pix2Pix(batch_size=4, accumulate=4)) == "instance-affine"
    assert translation.norm(configs.Pix2Pix(batch_size=4)) == "batch"
    assert translation.norm(configs.CycleGAN()) == "instance"


def test_a_penalized_discriminator_has_no_batch_norm():
    config = configs.Pix2Pix(batch_size=4, loss="wasserstein", discriminator_filters=4)
    network = translation.discriminator(config, 3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_the_networks_of_a_config():
    config = configs.Pix2Pix(size=(32, 64), filters=4, discriminator="pixel", discriminator_filters=4, scales=2)
    made = translation.generator(config, ImageSpec(labels=5), ImageSpec(1))
    assert made.network(torch.zeros(1, 5, 32, 64)).shape == (1, 1, 32, 64) and made.multiple == 32
    outputs = translation.discriminator(config, 6)(torch.zeros(1, 6, 32, 64))
    assert [tuple(each.shape) for each in outputs] == [(1, 1, 32, 64), (1, 1, 16, 32)]


def test_inference_is_image_by_image_without_dropout_and_leaves_the_mode():
    torch.manual_seed(0)
    from mlcli.runtime.device import Runtime

    config = configs.Pix2Pix(size=(32, 32), filters=4, dropout=0.5)
    network = translation.generator(config, ImageSpec(), ImageSpec()).network
    x = torch.randn(3, 3, 32, 32)
    runtime = Runtime(torch.device("cpu"), "fp32")
    made = translation.translated(network, x, runtime)
    assert network.training and torch.equal(made[1:2], translation.translated(network, x[1:2], runtime))


def test_parts_of_a_batch():
    batch = torch.arange(6), torch.arange(6) * 2
    assert [part[1].tolist() for part in translation.parts(batch, 3)] == [[0, 2], [4, 6], [8, 10]]
    assert len(translation.parts(batch, 1)) == 1
