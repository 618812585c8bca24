"""Linear probes: who learns and who is tested, what a probe is given, and that it tells layers apart."""

from pathlib import Path

import torch

from mlcli.data.folders import ClassFolder
from mlcli.methods.learning.linear_probe import MAX_FEATURES, Probe, best, draw, pooled_features, probe, probed, read
from mlcli.models import registry
from mlcli.runtime.device import Runtime
from tests.methods.learning.test_finetuning import images

FP32, BF16 = (Runtime(torch.device("cpu"), precision) for precision in ("fp32", "bf16"))


def test_labeled_images_are_drawn_evenly_and_are_not_tested_on():
    labels = [0] * 50 + [1] * 30 + [2] * 4
    folder = ClassFolder(Path("data"), ("a", "b", "c"), [Path(f"data/{i}.png") for i in range(84)], labels)
    learned, tested = draw(folder, 20, 40, seed=0)
    assert [learned.labels.count(label) for label in range(3)] == [8, 8, 4]
    assert len(tested.paths) == 40 and not set(learned.paths) & set(tested.paths)
    assert draw(folder, 20, 40, seed=0)[0].paths == learned.paths != draw(folder, 20, 40, seed=1)[0].paths


def test_a_map_becomes_few_features():
    model = registry.create("cifarnet", ("a", "b"), 16)
    chosen = probed(model)
    assert list(chosen) == ["conv1", "conv2", "conv3", "conv4", "conv5", "features"]
    said = read(model, images(4), chosen, FP32)
    # 64 x 4 x 4 (not 5 x 5 = 1600), 128 x 2 x 2, 256 x 2 x 2, 384, 384; the last is a vector as it is
    assert {name: x.shape[1] for name, x in said.items()} == {
        "conv1": 1024,
        "conv2": 512,
        "conv3": 1024,
        "conv4": 384,
        "conv5": 384,
        "features": 384,
    }
    values = torch.arange(2.0 * 128 * 4 * 4).view(2, 128, 4, 4)
    pooled = pooled_features(values, chosen["conv2"]).view(2, 128, 2, 2)
    assert pooled.numel() <= 2 * MAX_FEATURES and torch.equal(pooled[0, 5, 1, 0], values[0, 5, 2:, :2].mean())


def test_a_probe_reads_what_a_layer_knows():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ("x", "y"), 16)
    with torch.no_grad():
        model.network.conv4.norm.weight.zero_()  # from here on nothing is known
    found = probe(model, ("dark", "bright"), images(24), images(24), FP32, 0)
    assert found["conv1"].evaluation.correct == found["conv3"].evaluation.correct == 24
    assert found["conv4"].evaluation.correct == found["features"].evaluation.correct == 12
    assert found["conv4"].accuracy == 0.5
    assert best(found) in ("conv1", "conv2", "conv3") and found["conv1"].held_out_loss < found["conv4"].held_out_loss


def test_the_best_layer_is_not_chosen_on_the_tested_images():
    """Tested images whose labels are wrong change the accuracy of each layer, and not which is called the best.

    Nor does the precision that the network was trained in: layers are read in fp32.
    """
    torch.manual_seed(0)
    model = registry.create("cifarnet", ("x", "y"), 16)
    right, wrong = images(24), images(24)
    wrong.labels = 1 - wrong.labels
    found, misled = (
        probe(model, ("dark", "bright"), images(24), tested, runtime, 0)
        for tested, runtime in ((right, FP32), (wrong, BF16))
    )
    assert {name: each.held_out_loss for name, each in found.items()} == {
        name: each.held_out_loss for name, each in misled.items()
    }
    nothing_held_out = {name: Probe(each.evaluation, 0.0) for name, each in found.items()}
    assert best(nothing_held_out) == "features"
    assert best(found) == best(misled) and found[best(found)].accuracy == 1 - misled[best(misled)].accuracy == 1
