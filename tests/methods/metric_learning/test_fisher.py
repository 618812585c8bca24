"""The metric against numpy in float64, and what leaving identities out does; the command is tested with the others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import UsageError
from mlcli.methods.metric_learning import embedder, fisher
from mlcli.methods.metric_learning.configs import Fisher as Config
from mlcli.methods.metric_learning.fisher import Fisher, Scatter
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from tests.tiny import identities

CONFIG = Config(between=0.3, shrinkage=0.2, folds=2, batch_size=7, flip=True)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = identities(tmp_path_factory.mktemp("data"), "abcde", each=4)
    paths = sorted(root.rglob("*.png"))
    labels = [ord(path.parent.name) - ord("a") for path in paths]
    return ImageDataset.load(paths, labels, size=16, channels=3)


def method(images, config=CONFIG, validation=None) -> Fisher:
    model = embedder.up_to(embedder.pretrained_model("cifarnet", None), "conv1", 16)
    return Fisher(model, images, validation, replace(config, layer="conv1"), None, Runtime(CPU, "fp32"), Processes(CPU))


def passed(images, *others) -> Fisher:
    """After its one pass, with images of no number among the last."""
    result = method(images, *others)
    for step, numbers in enumerate(torch.arange(result.items(7)).split(7)):
        assert result.step(result.load(numbers, step), step)["views"] > 0
    return result


def test_the_metric_is_the_inverse_of_the_scatter_within_and_some_of_that_between():
    random = np.random.default_rng(0)
    identity = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3])
    fold = torch.tensor([0, 0, 1, 1, 1, 0, 0, 1, 1])
    seen = random.normal(size=(3, 9, 4)) + 3 * random.normal(size=(4, 4))[identity] + 5
    scatter = Scatter(9, 2, 4, views=3)
    for part in torch.tensor([8, 1, 3, 0, 7, 2, 4, 6, 5]).split(2):
        scatter.add(torch.from_numpy(seen)[:, part], part, fold[part])
    for left_out, chosen in ((None, [0, 1, 2, 3]), (0, [1, 3]), (1, [0, 2])):
        own = [seen[:, identity == one].reshape(-1, 4) for one in chosen]
        centers = np.stack([one.mean(0) for one in own])
        within = sum((one - one.mean(0)).T @ (one - one.mean(0)) for one in own) / sum(map(len, own))
        between = np.cov(centers.T, bias=True)
        metric = np.linalg.inv(within + 0.3 * between + 0.2 * np.trace(within) / 4 * np.eye(4))
        space = scatter.solved(identity, fold, left_out, CONFIG)
        factor = space.factor.double().numpy()
        np.testing.assert_allclose(factor.T @ factor, metric, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(space.center.numpy(), centers.mean(0), rtol=1e-6)
        x = torch.from_numpy(seen[0]).float()
        by_hand = (seen[0] - centers.mean(0)) @ factor.T
        by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
        np.testing.assert_allclose(space(x).numpy(), by_hand, atol=1e-5)


def test_positions_are_roots_of_means_of_length_one():
    maps = torch.zeros(1, 2, 6, 6)
    maps[0, 0, :2, :2], maps[0, 1, 5, 5] = 4.0, 4.0  # the means of the first and of the last region are 4 and 1
    found = embedder.regional(maps)
    assert found.shape == (1, 18)
    assert found[0].nonzero()[:, 0].tolist() == [0, 17]
    assert found[0, [0, 17]].tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_every_image_is_seen_once_in_all_its_views(images):
    result = passed(images)
    assert result.items(7) == 21
    seen = result.encoder.encoded_views(images.batch(torch.arange(20)))
    assert seen.shape[:2] == (10, 20)  # five views and their flipped copies
    torch.testing.assert_close(result.scatter.means, seen.double().mean(0), rtol=1e-5, atol=1e-6)
    rows = seen.double().flatten(0, 1)
    torch.testing.assert_close(result.scatter.seconds.sum(0), rows.T @ rows, rtol=1e-4, atol=1e-4)


def test_identities_are_compared_by_a_metric_of_others_and_the_result_is_of_all(images):
    result = passed(images)
    pairs = result.compared()
    whole = result.fold_of.bincount() * (result.fold_of.bincount() - 1) // 2
    assert len(pairs.same) == whole.sum() and pairs.same.sum() == 5 * 6
    assert torch.equal(result.fold_of[pairs.first], result.fold_of[pairs.second])
    number = int((result.fold_of[pairs.first] == 1).nonzero()[0])
    a, b = pairs.first[number], pairs.second[number]
    without = result.with_space(left_out=1)
    distance = without.between(*(without.points(images.batch(n[None])) for n in (a, b)))
    assert distance.item() == pytest.approx(pairs.distances[number].item(), abs=1e-4)
    points = result.result.points(images.batch(torch.stack([a, b])))
    assert (points[0] - points[1]).norm().item() != pytest.approx(distance.item(), abs=1e-3)
    assert torch.equal(images.labels[pairs.first] == images.labels[pairs.second], pairs.same)


def test_with_other_identities_to_validate_on_all_learn_and_the_others_are_compared(images, tmp_path):
    root = identities(tmp_path, "xyz", each=3, seed=5)
    paths = sorted(root.rglob("*.png"))
    others = ImageDataset.load(paths, [ord(path.parent.name) - ord("x") for path in paths], size=16, channels=3)
    result = passed(images, CONFIG, others)
    assert len(result.scatter.seconds) == 1 and len(result.compared().same) == 9 * 8 // 2


def test_too_many_numbers_are_refused(images, monkeypatch):
    monkeypatch.setattr(fisher, "MAX_DIMENSION", 500)
    with pytest.raises(UsageError, match="conv1: makes 576 numbers .* an earlier layer"):
        method(images)
