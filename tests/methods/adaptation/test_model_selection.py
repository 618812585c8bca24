"""Criteria by hand; the candidates kept, chosen and brought back."""

import math

import pytest
import torch
from torch import nn

from mlcli.errors import RunError
from mlcli.methods.adaptation import model_selection
from mlcli.runtime.processes import Processes

CPU = torch.device("cpu")


def test_information_maximization_wants_sure_answers_of_all_classes():
    sure, one, unsure = torch.eye(4), torch.eye(4)[:1].expand(4, 4), torch.full((4, 4), 0.25)
    scores = [model_selection.information_maximization(p) for p in (sure, one, unsure)]
    assert scores == [pytest.approx(math.log(4)), pytest.approx(0), pytest.approx(0)]
    assert model_selection.certainty(one) == pytest.approx(0) and model_selection.certainty(unsure) == pytest.approx(
        -math.log(4)
    )


def test_neighborhood_density_by_hand():
    p = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    pair = math.exp(20) / (math.exp(20) + 1)  # the first sees its like at similarity 1, the third at 0
    expected = (2 * -(pair * math.log(pair) + (1 - pair) * math.log(1 - pair)) + math.log(2)) / 3
    assert model_selection.soft_neighborhood_density(p) == pytest.approx(expected, abs=1e-6)


def test_maps_are_judged_by_their_pixels():
    maps = torch.eye(4)[torch.arange(128).view(2, 8, 8) % 4].movedim(3, 1)
    assert model_selection.information_maximization(maps) == pytest.approx(math.log(4), abs=1e-4)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_pixels_of_a_map_are_taken_from_all_over_it(size):
    """The left half is of one class, the right of the other: each column shows one."""
    halves = torch.zeros(3, 2, size, size)
    halves[:, 0, :, : size // 2] = halves[:, 1, :, size // 2 :] = 1
    assert model_selection.information_maximization(halves) == pytest.approx(math.log(2), abs=0.1)
    assert model_selection.rows(halves).shape == (3 * 64, 2)


@pytest.mark.parametrize("select, chosen", [("im", 20), ("last", 30)])
def test_candidates(select, chosen, tmp_path):
    network = nn.Linear(1, 1, bias=False)
    candidates = model_selection.Candidates(tmp_path, network, select, Processes(CPU))
    for step, p in ((10, torch.full((4, 4), 0.25)), (20, torch.eye(4)), (30, torch.eye(4)[:1].expand(4, 4))):
        nn.init.constant_(network.weight, step)
        candidates.add(step, p)
    again = model_selection.Candidates(tmp_path, network, select, Processes(CPU))
    again.load_state_dict(candidates.state_dict())
    assert again.chosen == chosen and again.last == 30
    again.restore(again.chosen)
    assert network.weight.item() == chosen
    (tmp_path / "step-00000010.safetensors").unlink()
    with pytest.raises(RunError, match="--overwrite"):
        again.restore(10)


def test_of_equal_candidates_the_latest_is_chosen(tmp_path):
    candidates = model_selection.Candidates(tmp_path, nn.Linear(1, 1), "im", Processes(CPU))
    for step, p in ((10, torch.eye(4)), (20, torch.eye(4)), (30, torch.full((4, 4), 0.25))):
        candidates.add(step, p)
    assert candidates.scores[10] == candidates.scores[20] > candidates.scores[30]
    assert candidates.chosen == 20
    candidates.load_state_dict({"scores": {step: candidates.scores[step] for step in (20, 30, 10)}})  # in any order
    assert candidates.chosen == 20
