"""The batches and the step; that a run learns is tested through the command."""

import math
from dataclasses import replace

import pytest
import torch

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.metric_learning import embedder
from mlcli.methods.metric_learning.configs import Siamese as Config
from mlcli.methods.metric_learning.losses import LOSSES
from mlcli.methods.metric_learning.siamese import Siamese, oriented
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from tests.tiny import identities

CONFIG = Config(dimension=8, identities=4, images_per_identity=3, steps=10)
PLAIN = replace(CONFIG, rotation=0, scale=0, shear=0, shift=0, warp=0, contrast=0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = identities(tmp_path_factory.mktemp("data"), "abcdef", each=4)
    (root / "a/01.png").unlink(), (root / "a/02.png").unlink()
    paths = sorted(root.rglob("*.png"))
    return ImageDataset.load(paths, [ord(path.parent.name) - ord("a") for path in paths], size=16, channels=1)


def method(images, config=CONFIG) -> Siamese:
    torch.manual_seed(0)
    encoder = embedder.encoder(None, config.dimension, 16, 1)
    return Siamese(encoder, images, images, config, None, Runtime(CPU, "fp32"), Processes(CPU))


def test_orientations_are_all_different_and_undone_by_their_inverse():
    images = torch.rand(8, 2, 5, 5)
    rotated = oriented(images, torch.arange(8))
    # a quarter is undone by three more, two by two, and whatever is flipped by itself
    assert torch.equal(oriented(rotated, torch.tensor([0, 3, 2, 1, 4, 5, 6, 7])), images)
    of_one = oriented(images[:1].expand(8, -1, -1, -1), torch.arange(8))
    assert len({tuple(one.flatten().tolist()) for one in of_one}) == 8


def test_orientations_are_quarters_to_the_left_and_then_flipped_ones():
    square = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]).expand(8, -1, -1, -1)
    rotated = [[0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]]
    flipped = [[1, 0, 3, 2], [3, 1, 2, 0], [2, 3, 0, 1], [0, 2, 1, 3]]  # each of them, left and right exchanged
    assert oriented(square, torch.arange(8)).flatten(1).tolist() == rotated + flipped


def test_a_batch_holds_as_many_images_of_each_identity(images):
    siamese = method(images, replace(PLAIN, orientations=4))
    assert siamese.items == 24
    batch = siamese.load(torch.tensor([0, 7, 20]), 3)
    assert batch.identities.tolist() == [0] * 3 + [7] * 3 + [20] * 3
    names = siamese.name_batch(torch.tensor([0, 7, 20]), 3)
    assert [name.split("/")[-2] for name in names] == list("aaabbbccc")
    assert len(set(names[:3])) == 2 and len(set(names[3:6])) == 3  # identity a has but two
    shown = images.batch(torch.tensor([[str(path) for path in images.paths].index(name) for name in names])) / 255
    assert torch.allclose(batch.images[:3], shown[:3], atol=1e-5)
    assert torch.allclose(batch.images[3:6], torch.rot90(shown[3:6], 1, (2, 3)), atol=1e-5)
    other = siamese.load(torch.tensor([20, 7]), 3)  # what is drawn of an identity depends on the step alone
    assert torch.equal(other.images[3:], batch.images[3:6])
    assert not torch.equal(siamese.load(torch.tensor([0, 7, 20]), 4).images, batch.images)


def test_flipped_images_stay_who_they_are(images):
    siamese = method(images, replace(PLAIN, flip=True))
    image = images.batch(torch.arange(3))
    assert torch.allclose(siamese.result.points(image), siamese.result.points(image.flip(-1)), atol=1e-6)
    plain = method(images, PLAIN)
    assert not torch.allclose(plain.result.points(image), plain.result.points(image.flip(-1)), atol=1e-3)


def test_the_result_averages_over_views(images):
    """In the outputs of the encoder, before they are brought to the sphere."""
    one, all_ = (method(images, replace(PLAIN, views=count)).result for count in (1, 5))
    image = images.batch(torch.arange(2))
    seen = [embedder.VIEWS.apply(image / 255, view.expand(2, -1)) for view in embedder.VIEWS.around(5)]
    assert torch.allclose(seen[0], image / 255, atol=1e-5) and not torch.allclose(seen[1], seen[2], atol=0.05)
    with torch.inference_mode():
        mean = torch.stack([one.model(view) for view in seen]).mean(0)
    assert torch.allclose(all_.points(image), mean / mean.norm(dim=1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_lowers_the_loss_of_its_batch(name, images):
    siamese = method(images, replace(PLAIN, loss=name, optimizer="adamw", lr=1e-3, schedule="constant"))
    batch = siamese.load(torch.arange(4), 0)
    losses = [siamese.step(batch, step)["loss"].item() for step in range(6)]
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]


def test_the_average_is_what_is_measured_and_saved(images):
    siamese = method(images)
    figures = siamese.evaluate()
    assert 0 <= figures["val_eer"] <= 1 and figures.keys() == {"val_eer", "val_auc", "threshold"}
    with torch.no_grad():
        for weight in siamese.embedding.parameters():
            weight.zero_()
    assert siamese.evaluate() == figures


def test_the_hardest_pairs_are_drawn(images):
    samples = method(images).samples()
    assert list(samples) == ["nearest-pairs-of-different-identities", "farthest-pairs-of-one-identity"]
    for image in samples.values():
        assert image.width >= 4 * 96 and image.height >= 96
