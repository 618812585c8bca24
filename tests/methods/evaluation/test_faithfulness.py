import pytest
import torch
from torch import nn

from mlcli.methods.evaluation import faithfulness, sanity_check
from mlcli.methods.evaluation.faithfulness_table import tabulated
from mlcli.models import registry


def brightness_of_the_upper_left(images):
    return images[:, 0, :8, :8].clamp_min(0).mean((1, 2))


def test_a_map_that_knows_deletes_and_inserts_faster():
    image = torch.ones(1, 32, 32)
    importance = torch.zeros(32, 32)
    importance[:8, :8] = 1
    orders = {
        "known": faithfulness.by_importance(importance),
        "opposite": faithfulness.by_importance(-importance),
        "random": faithfulness.at_random(image, 0),
        "center": faithfulness.from_center(32),
    }
    scores, areas = {}, {}
    for name, order in orders.items():
        assert sorted(order.tolist()) == list(range(64))
        found = faithfulness.curves(image, order, brightness_of_the_upper_left)
        scores[name], areas[name] = found.score, found.areas
        assert found.deletion[0] == 1 and found.deletion[-1] == 0 and found.insertion[-1] == 1
    assert areas["known"][0] < 0.05 and areas["opposite"][0] > 0.9
    assert scores["known"] > scores["random"] > scores["opposite"]


def test_areas_and_orders():
    assert faithfulness.area((1.0, 1.0, 1.0)) == 1 and faithfulness.area((1.0, 0.5, 0.0)) == 0.5
    assert faithfulness.cells(224) == 14 and faithfulness.cells(32) == 8 and faithfulness.cells(2) == 1
    image = torch.rand(3, 32, 32)
    assert torch.equal(faithfulness.at_random(image, 0), faithfulness.at_random(image, 0))
    assert not torch.equal(faithfulness.at_random(image, 0), faithfulness.at_random(image + 0.1, 0))
    assert set(faithfulness.from_center(16)[:4].tolist()) == {5, 6, 9, 10}


def test_the_rank_correlation():
    a = torch.tensor([[1.0, -2, 3], [4, 5, 5]])
    assert sanity_check.similarity(a, a) == pytest.approx(1)
    assert sanity_check.similarity(a, a.abs() ** 3) == pytest.approx(1)
    assert sanity_check.similarity(a, 10 - a.abs()) == pytest.approx(-1)
    assert sanity_check.similarity(a, torch.zeros(2, 3)) == 0


def test_random_weights_from_the_top():
    model = registry.load("cifarnet")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    half, all = (sanity_check.randomized(model, fraction, 0).network.state_dict() for fraction in (0.5, 1.0))
    same = {name for name, tensor in before.items() if torch.equal(tensor, half[name])}
    assert any(name.startswith("conv1") for name in same) and not any(name.startswith("conv5.conv") for name in same)
    assert not any(torch.equal(tensor, all[name]) for name, tensor in before.items() if name.endswith("conv.weight"))
    again = sanity_check.randomized(model, 1.0, 0).network.state_dict()
    assert all_equal(all, again) and not all_equal(all, sanity_check.randomized(model, 1.0, 1).network.state_dict())
    assert all_equal(before, model.network.state_dict())
    random = sanity_check.randomized(model, 1.0, 0)
    assert not any(module.training for module in random.network.modules())
    logits = random.network(model.normalized(torch.rand(4, 3, 32, 32)))
    assert logits.isfinite().all() and logits.std(0).max() > 1e-3


def test_random_weights_of_a_transformer():
    model = registry.create("timm/test_vit", ("a", "b"), 32)
    random = sanity_check.randomized(model, 1.0, 0)
    assert random.network(torch.rand(1, 3, 32, 32)).isfinite().all()
    assert isinstance(random.network.norm, nn.LayerNorm) and (random.network.norm.weight == 1).all()


def all_equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_table():
    def told(method, deletion, insertion, failed):
        reference = {"deletion": 0.5, "insertion": 0.5}
        checks = {"deletion": deletion, "insertion": insertion, "random": reference, "center": reference}
        return {"method": method, "checks": {**checks, "sanity": {"half": 0.2, "all": 0.1}, "failed": failed}}

    table = tabulated([told("a", 0.2, 0.8, []), told("b", 0.6, 0.5, ["random", "sanity"]), told("a", 0.4, 0.8, [])])
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["random", "center", "a", "b"] and rows["a"].count == 2 and rows["random"].count == 2
    assert rows["a"].deletion == pytest.approx(0.3) and rows["a"].advantages["random"][0] == pytest.approx(0.5)
    assert rows["a"].advantages["center"][1] == pytest.approx(0.4)
    assert rows["b"].failed == {"random": 1, "center": 0, "sanity": 1} and rows["random"].advantages is None
    assert tabulated([]).rows == ()
