"""Noise, ways between points of it, the order of a grid, and opening a generator."""

import math

import pytest
import torch

from mlcli.errors import UsageError, WeightsError
from mlcli.methods.generation.sampling import Sampler, between, draw, load, noise
from mlcli.networks.dcgan import Generator
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import generator
from mlcli.training import run_folder

PLAIN = Runtime(torch.device("cpu"), "fp32")


@pytest.fixture
def sampler():
    torch.manual_seed(0)
    return Sampler(Generator(8, 1, 4, 2, classes=3).eval(), ("ant", "bee", "cat"), PLAIN)


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return Sampler(Generator(8, 3, 4, 2).eval(), (), PLAIN)


def test_truncated_noise_stays_within_and_keeps_the_rest():
    whole, cut = noise(500, 8, generator(1)), noise(500, 8, generator(1), truncation=0.7)
    assert whole.std() == pytest.approx(1, abs=0.05) and whole.abs().max() > 2.5
    assert cut.abs().max() <= 0.7
    within = whole.abs() <= 0.7
    assert torch.equal(cut[within], whole[within])
    # the standard deviation of a normal number that is known to lie within 0.7
    assert cut.std() == pytest.approx(0.385, abs=0.01)


def test_the_way_between_two_points_is_an_arc():
    start, end = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    way = between(start, end, 3)
    assert way.shape == (2, 3, 2)
    half = 2 / math.sqrt(2)
    torch.testing.assert_close(way[0], torch.tensor([[2.0, 0], [half, half], [0, 2]]))
    torch.testing.assert_close(way[1], torch.tensor([[1.0, 0], [2, 0], [3, 0]]))  # no angle between them


def test_a_row_for_each_class(sampler):
    drawn = draw(sampler, 10, generator(0))
    assert drawn.columns == 4 and drawn.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    drawn = draw(sampler, 5, generator(0), labels=[2], columns=3)
    assert drawn.columns == 3 and drawn.labels.tolist() == [2] * 6
    assert len(drawn.latent.unique(dim=0)) == 6


def test_as_many_as_asked_for_without_classes(plain):
    drawn = draw(plain, 10, generator(0))
    assert drawn.columns == 4 and drawn.latent.shape == (10, 4) and not drawn.labels.any()
    assert len(draw(plain, 10, generator(0), columns=3).latent) == 10


def test_rows_that_go_from_one_point_to_another(sampler):
    drawn = draw(sampler, 6, generator(0), columns=5, interpolate=True)
    assert drawn.columns == 5 and drawn.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    ends = noise(6, 4, generator(0))
    rows = drawn.latent.view(3, 5, 4)
    torch.testing.assert_close(rows[:, 0], ends[:3])
    torch.testing.assert_close(rows[:, 4], ends[3:])
    angles = torch.nn.functional.cosine_similarity(rows[:, 1:], rows[:, :-1], dim=-1).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand(-1, 4), rtol=1e-3, atol=1e-3)  # equal steps


def test_images_do_not_depend_on_their_batch(sampler):
    drawn = draw(sampler, 12, generator(0))
    whole = sampler(drawn.latent, drawn.labels)
    assert whole.shape == (12, 1, 8, 8) and whole.dtype == torch.uint8
    parts = torch.cat(list(sampler.batches(drawn.latent, drawn.labels, batch_size=5)))
    assert (whole.int() - parts.int()).abs().max() <= 1
    made = sampler.network(drawn.latent, drawn.labels)
    assert torch.equal(whole, ((made + 1) / 2 * 255).round().to(torch.uint8))


def test_images_that_are_no_numbers_are_not_given_out(plain):
    plain.network.last.bias.data.fill_(float("nan"))
    with pytest.raises(WeightsError, match="no numbers"):
        plain(torch.randn(2, 4), torch.zeros(2, dtype=torch.int64))


def test_classes_by_name(sampler, plain):
    assert sampler.class_index("bee") == 1
    with pytest.raises(UsageError, match="did you mean bee"):
        sampler.class_index("beee")
    with pytest.raises(UsageError, match="without classes"):
        plain.class_index("bee")


def test_saved_and_opened_it_makes_the_same(sampler, tmp_path):
    run_folder.save_tensors(tmp_path / "model.safetensors", sampler.network.state_dict(), sampler.describe())
    opened = load(tmp_path, PLAIN)
    z, y = torch.randn(4, 4), torch.tensor([0, 1, 2, 0])
    assert opened.classes == sampler.classes and torch.equal(opened(z, y), sampler(z, y))


def test_what_is_no_generator_is_refused(sampler, tmp_path):
    file = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError, match="no run in this folder"):
        load(tmp_path, PLAIN)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="no model yet"):
        load(tmp_path, PLAIN)
    run_folder.save_tensors(file, {}, {"kind": "classifier"})
    with pytest.raises(WeightsError, match="holds a classifier, not a generator of a GAN"):
        load(tmp_path, PLAIN)
    tensors = sampler.network.state_dict()
    run_folder.save_tensors(file, tensors, sampler.describe() | {"options": {"size": 16}})
    with pytest.raises(WeightsError, match="its description is damaged"):
        load(tmp_path, PLAIN)
