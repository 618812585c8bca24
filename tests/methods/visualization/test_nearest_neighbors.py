import math

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.errors import ImageError, WeightsError
from mlcli.imaging import image_io
from mlcli.methods.visualization import nearest_neighbors
from mlcli.methods.visualization.nearest_neighbors import distance, feature_vectors, nearest
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime
from tests.tiny import class_folders

FP32 = Runtime(torch.device("cpu"), "fp32")


def in_blocks(vectors, size):
    """Blocks in descending order of their indices."""
    numbers = torch.arange(len(vectors))
    return lambda: reversed(list(zip(numbers.split(size), vectors.split(size), strict=True)))


def test_distances_by_hand():
    query = torch.tensor([3.0, 4.0])
    among = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-4.0, 3.0], [6.0, 8.0], [-3.0, -4.0]])
    assert distance(query, among, "euclidean").tolist() == [0, 5, math.sqrt(50), 5, 10]
    assert distance(query, among, "cosine").tolist() == pytest.approx([0, 1, 1, 0, 2], abs=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("size", [7, 1000])
def test_the_nearest_are_those_of_brute_force(metric, size, monkeypatch):
    monkeypatch.setattr(nearest_neighbors, "QUERY_BATCH", 3)
    random = np.random.default_rng(0)
    among, queries = random.normal(2, 1, (300, 12)), random.normal(2, 1, (8, 12))
    among, queries = among.astype(np.float32), queries.astype(np.float32)
    own = torch.tensor([-1] * 7 + [5])
    queries[7] = among[5]
    a, q = among.astype(np.float64), queries.astype(np.float64)
    if metric == "euclidean":
        all_distances = np.sqrt(((q[:, None] - a[None]) ** 2).sum(2))
    else:
        all_distances = 1 - (q @ a.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(a, axis=1)
    all_distances[7, 5] = np.inf
    order = all_distances.argsort(1)[:, :9]
    blocks = in_blocks(torch.from_numpy(among), size)
    numbers, distances = nearest(torch.from_numpy(queries), blocks, 9, metric, exclude=own)
    assert (numbers.numpy() == order).all()
    np.testing.assert_allclose(distances.numpy(), np.take_along_axis(all_distances, order, 1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_small_distances_of_long_vectors_are_exact(metric):
    # |q|^2 + |v|^2 - 2 q v of these is off by more than the distances themselves in float32
    among = torch.full((6, 64), 1000.0)
    among[:, 0] += torch.tensor([0.5, 0.25, 0.0, 1.0, 0.125, 2.0])
    numbers, distances = nearest(torch.full((1, 64), 1000.0), in_blocks(among, 2), 4, metric)
    assert numbers.tolist() == [[2, 4, 1, 0]]
    if metric == "euclidean":
        assert distances.tolist() == [[0, 0.125, 0.25, 0.5]]


def test_ties_are_sorted_by_index():
    among = torch.ones(40, 3)
    numbers, distances = nearest(torch.ones(1, 3), in_blocks(among, 10), 3, "euclidean", exclude=torch.tensor([1]))
    assert numbers.tolist() == [[0, 2, 3]] and distances.tolist() == [[0, 0, 0]]


def test_fewer_than_asked_for():
    among = torch.tensor([[1.0, 0], [2.0, 0], [3.0, 0]])
    queries = torch.tensor([[1.0, 0], [9.0, 0]])
    numbers, _ = nearest(queries, in_blocks(among, 2), 10**20, "euclidean", exclude=torch.tensor([0, -1]))
    assert numbers.tolist() == [[1, 2, -1], [2, 1, 0]]


# -- vectors of images ---------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["blue", "green", "red"], 16)
    model.network.eval().requires_grad_(False)
    return model


@pytest.mark.parametrize("address", ["features", "conv2", "conv1.conv"])
def test_a_vector_is_the_layer_averaged_over_its_positions(model, tmp_path, address):
    paths = sorted(class_folders(tmp_path, per_class=2).rglob("*.png"))
    paths[1].write_bytes(b"")
    layer = features.resolve(model, address)
    found = list(feature_vectors(model, features.LayerVectors(model, layer), paths, FP32, batch_size=4))
    assert [path for path, _ in found] == paths and isinstance(found[1][1], ImageError)
    outputs = []
    model.network.get_submodule(address).register_forward_hook(lambda *call: outputs.append(call[-1]))
    good = [path for path in paths if path != paths[1]]
    model(torch.stack([model.preprocessing.prepare(image_io.read(path)) for path in good]))
    (output,) = outputs
    expected = output if output.ndim == 2 else output.double().sum((2, 3)) / output[0, 0].numel()
    rows = torch.stack([row for _, row in found if isinstance(row, torch.Tensor)])
    torch.testing.assert_close(rows.double(), expected.double(), atol=1e-5, rtol=1e-4)
    assert rows.shape == (5, layer.shape[0]) and rows.std(0).max() > 1e-4


def test_a_layer_that_is_no_number(model, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    model.network.conv5.conv.weight.fill_(math.nan)
    network = features.LayerVectors(model, features.hidden(model))
    with pytest.raises(WeightsError, match="cifarnet: answers with no number in fp32"):
        list(feature_vectors(model, network, [tmp_path / "one.png"], FP32))
