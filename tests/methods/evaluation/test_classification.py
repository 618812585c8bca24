import gc
import math
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.data.folders import ClassFolder
from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import ImageError, WeightsError
from mlcli.imaging import decoding, image_io
from mlcli.methods.evaluation import classification
from mlcli.methods.evaluation.classification import balanced_interval, errors, evaluate, predict, probabilities, wilson
from mlcli.models import registry
from mlcli.runtime.device import Runtime
from tests.tiny import class_folders

FP32 = Runtime(torch.device("cpu"), "fp32")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["blue", "green", "red"], 16)
    model.network.eval().requires_grad_(False)
    return model


def test_probabilities_are_softmax_of_the_logits_in_order(model, tmp_path):
    paths = ClassFolder.open(class_folders(tmp_path, per_class=3)).paths
    answers = list(probabilities(model, paths, FP32, batch_size=4))
    assert [path for path, _ in answers] == paths
    images = torch.stack([model.preprocessing.prepare(image_io.read(path)) for path in paths])
    expected = model(images).softmax(1)
    torch.testing.assert_close(torch.stack([row for _, row in answers]), expected, atol=1e-6, rtol=1e-5)
    assert expected.std(0).max() > 1e-4  # the images do differ


def test_bad_images_stand_in_their_place(model, tmp_path):
    paths = ClassFolder.open(class_folders(tmp_path, per_class=2)).paths
    for number in (0, 3):
        paths[number].write_bytes(b"")
    answers = list(probabilities(model, paths, FP32, batch_size=2))
    assert [isinstance(row, ImageError) for _, row in answers] == [True, False, False, True, False, False]
    assert list(probabilities(model, paths[:1], FP32))[0][1].args[0].startswith(str(paths[0]))


def test_deep_images_among_those_of_8_bits(model, tmp_path):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep >> 8).astype(np.uint8)).save(tmp_path / "flat.png")
    paths = [tmp_path / "flat.png", tmp_path / "deep.png"]
    together = [row for _, row in probabilities(model, paths, FP32)]
    alone = [next(probabilities(model, [path], FP32))[1] for path in paths]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(together[0], together[1], atol=0.02, rtol=0)  # they show the same


def test_only_a_window_of_images_is_alive(model, tmp_path, monkeypatch):
    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    alive, most = weakref.WeakSet(), 0

    def read(path):
        image = torch.zeros(3, 16, 16, dtype=torch.uint8)
        alive.add(image)
        return image

    decode = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *args, **options: decode(*args, **options | {"read": read}))
    for _ in probabilities(model, [tmp_path / "one.png"] * 300, FP32, batch_size=8, workers=2):
        gc.collect(0)
        most = max(most, len(alive))
    assert 8 <= most <= 8 + 2 * 8 + 2


def test_a_network_that_answers_with_no_number(model):
    model.network.classifier.bias.fill_(math.nan)
    with pytest.raises(WeightsError, match="cifarnet: answers with no number in fp32"):
        predict(model, torch.zeros(1, 3, 16, 16), FP32)


def test_evaluation_counts():
    rows = torch.eye(6)
    # label, predicted: 0 0, 0 1, 1 1, 5 0 with 5 as the last one
    last = torch.tensor([6.0, 5, 4, 3, 2, 1]) / 21
    result = evaluate("abcdef", [(0, rows[0]), (0, rows[1] + 0.1 * rows[0]), (1, rows[1]), (5, last)])
    report = result.as_json()
    assert (result.count, result.correct, result.top5) == (4, 2, 3)
    assert report["accuracy"] == 0.5 and report["top5_accuracy"] == 0.75 and report["count"] == 4
    assert report["confusion"][0][:2] == [1, 1] and report["confusion"][5][0] == 1
    assert report["per_class"] == {
        "a": {"accuracy": 0.5, "count": 2},
        "b": {"accuracy": 1.0, "count": 1},
        "f": {"accuracy": 0.0, "count": 1},
    }
    assert report["interval"] == list(wilson(2, 4))
    assert report["balanced_accuracy"] == (0.5 + 1 + 0) / 3


def test_the_interval_of_a_balanced_accuracy():
    """Of one class it is Wilson's; it holds the truth in about 95 of 100 samples, and always the estimate."""
    assert balanced_interval([(9, 10)]) == pytest.approx(wilson(9, 10))
    low, high = balanced_interval([(10, 10)] * 4)
    assert high == 1 and low == pytest.approx(1 - (1 - wilson(10, 10)[0]) / 2)
    chances, counts = torch.tensor([0.95, 0.8, 0.6]).double(), (30, 60, 20)
    random, held = torch.Generator().manual_seed(0), 0
    for _ in range(1000):
        drawn = [int((torch.rand(n, generator=random) < p).sum()) for p, n in zip(chances, counts, strict=True)]
        low, high = balanced_interval(list(zip(drawn, counts, strict=True)))
        held += low <= chances.mean() <= high
    assert 930 <= held <= 970


def test_errors_come_the_surest_first():
    rows = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [torch.nan, torch.nan]])
    wrong, predicted = errors(rows, torch.tensor([0, 0, 0, 1]))
    assert wrong.tolist() == [2, 1] and predicted[:3].tolist() == [0, 1, 1]


@pytest.mark.parametrize("successes, count", [(94, 100), (1, 2), (9400, 10_000)])
def test_wilson_interval_ends_where_the_score_test_rejects(successes, count):
    low, high = wilson(successes, count)
    fraction = successes / count
    assert low < fraction < high
    for end in (low, high):
        assert abs(fraction - end) / math.sqrt(end * (1 - end) / count) == pytest.approx(1.959964)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == pytest.approx(1)


def test_wilson_interval_covers_what_it_promises():
    random = np.random.default_rng(0)
    hits = [low <= 0.9 <= high for low, high in (wilson(int(k), 200) for k in random.binomial(200, 0.9, 4000))]
    assert 0.93 < np.mean(hits) < 0.97
    assert wilson(0, 0) == (0.0, 1.0)


def test_accuracy_of_an_image_dataset(model, tmp_path):
    folder = ClassFolder.open(class_folders(tmp_path, per_class=5))
    images = ImageDataset.load(folder.paths, folder.labels, size=16)
    predicted = predict(model, images.batch(torch.arange(15)), FP32).argmax(1)
    expected = (predicted == images.labels).float().mean().item()
    model.network.train()
    assert classification.accuracy(model, images, FP32, batch_size=4) == pytest.approx(expected)
