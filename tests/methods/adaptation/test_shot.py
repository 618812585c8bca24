"""SHOT: losses and pseudo-labels against plain reckonings, what stays fixed, a run that gains on a shifted domain."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mlcli.methods.adaptation import shot
from mlcli.methods.adaptation.context import probabilities
from mlcli.methods.adaptation.registry import Shot
from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES
from tests import shapes

ALONE = Processes(torch.device("cpu"))
SMALL = Shot(model="lenet", lr=1e-3, source_steps=60, steps=60, batch_size=30, candidates=3, shift=1, rotate=0.0)


def made(folder, config=SMALL, epoch=3):
    context = shapes.context(folder, config)
    f = context.new_model()
    f.network.eval().requires_grad_(False)
    return shot.SHOT(context, f, Run(folder / "run"), config.steps, epoch), f


def test_the_entropy_losses_by_hand():
    d = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    p = [0.4, 0.15, 0.45]
    entropies = [-sum(value * math.log(value) for value in row) for row in d.tolist()]
    certain, diverse = shot.entropy_losses(d.log() + 3.0, ALONE)
    assert certain.item() == pytest.approx(sum(entropies) / 2, rel=1e-12)
    assert diverse.item() == pytest.approx(sum(value * math.log(value) for value in p), rel=1e-12)
    even = shot.entropy_losses(torch.eye(4, dtype=torch.float64) * 1e3, ALONE)
    assert even[0].item() == pytest.approx(0, abs=1e-9) and even[1].item() == pytest.approx(-math.log(4))


def test_pseudo_labels_are_the_nearest_centroids_of_the_nearest_centroids():
    torch.manual_seed(0)
    features, d = torch.randn(40, 5, dtype=torch.float64), torch.randn(40, 3, dtype=torch.float64).softmax(1)
    unit = [torch.cat([row, torch.ones(1)]) / math.sqrt(row.square().sum().item() + 1) for row in features]

    def nearest(centroids):
        return [max(range(3), key=lambda k: F.cosine_similarity(row, centroids[k], dim=0).item()) for row in unit]

    weighted = [sum(d[n, k] * unit[n] for n in range(40)) / d[:, k].sum() for k in range(3)]
    first = nearest(weighted)
    assert set(first) == {0, 1, 2} and first != d.argmax(1).tolist()
    second = nearest([sum(u for u, k in zip(unit, first, strict=True) if k == c) / first.count(c) for c in range(3)])
    assert second != first
    assert shot.nearest_centroids(features, d).tolist() == second


def test_a_class_without_pseudo_labels_keeps_its_centroid():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    d = torch.tensor([[0.98, 0.01, 0.01], [0.98, 0.01, 0.01], [0.01, 0.98, 0.01]])
    labels = shot.nearest_centroids(features, d)
    assert labels.isfinite().all() and labels[0] == labels[1] != labels[2]


def test_a_step_is_the_published_one(tmp_path):
    method, f = made(tmp_path)
    images, indices = method.load(torch.arange(30), 0)
    labels, network = method.pseudo_labels()[indices], copy.deepcopy(method.model.network)
    encoder = [p for p in network.parameters() if not any(p is q for q in network.classifier.parameters())]
    adam = torch.optim.Adam(encoder, 1e-3 * SCHEDULES["cosine"](0, 60), betas=(0.9, 0.999))
    logits = network((images.float() / 255 - 0.5) / 0.25)
    d = logits.softmax(1)
    ent, div = -(d * d.log()).sum(1).mean(), (d.mean(0) * d.mean(0).log()).sum()
    pseudo = -d.log()[torch.arange(30), labels].mean()
    (ent + div + 0.3 * pseudo).backward()
    adam.step()

    losses = method.step((images, indices), 0)
    for name, value in (("loss_ent", ent), ("loss_div", div), ("loss_pseudo", pseudo)):
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for name, weights in network.state_dict().items():
        assert torch.allclose(method.model.network.state_dict()[name], weights, atol=2e-5), name
    assert torch.equal(method.model.network.classifier.weight, f.network.classifier.weight), "h is fixed"
    assert not torch.equal(method.model.network.conv1.weight, f.network.conv1.weight)


def test_pseudo_labels_are_found_once_an_epoch(tmp_path, monkeypatch):
    method, _ = made(tmp_path)
    found, real = [], method.pseudo_labels
    monkeypatch.setattr(method, "pseudo_labels", lambda: (found.append(method.steps_done), real())[1])
    assert (method.pseudo.labels == -1).all()
    for step in range(7):
        method.step(method.load(torch.arange(30), step), step)
    assert found == [0, 3, 6]
    stored = method.pseudo.state_dict()
    method.pseudo.load_state_dict({"labels": torch.zeros(90, dtype=torch.int64)})
    assert not torch.equal(method.pseudo.labels, stored["labels"])


def test_it_gains_on_a_shifted_domain_and_leaves_the_hypothesis_alone(tmp_path):
    context = shapes.context(tmp_path, replace(SMALL, steps=150))
    adapted = shot.adapt(context)
    test = shapes.domain(150, 7, target=True)
    right = [
        (probabilities(model, test.images, context.runtime).argmax(1) == test.labels).float().mean().item()
        for model in (adapted.source_only, adapted.model)
    ]
    assert right[1] > right[0] + 0.1, right
    own = [model.network.classifier.weight for model in (adapted.source_only, adapted.model)]
    assert torch.equal(*own)
    assert [run.folder.name for run in adapted.stages] == ["source", "adapted"]
