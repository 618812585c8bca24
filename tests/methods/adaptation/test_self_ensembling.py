"""Self-ensembling: its losses, its augmentation and a step against plain reckonings, a run that gains."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from mlcli.methods.adaptation import self_ensembling
from mlcli.methods.adaptation.context import frozen, probabilities
from mlcli.methods.adaptation.registry import SelfEnsembling
from mlcli.training.run_folder import Run
from tests import shapes

SMALL = SelfEnsembling(
    model="digits", source_steps=60, source_batch_size=30, steps=40, batch_size=30, candidates=4, shift=1
)


def taught():
    return torch.tensor([[0.97, 0.02, 0.01], [0.9, 0.1, 0.0], [0.0, 0.03, 0.97]], dtype=torch.float64)


def test_the_losses_by_hand():
    mask = self_ensembling.confident(taught(), 0.968)
    assert mask.tolist() == [1, 0, 1]
    answers = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.1, 0.03, 0.87]], dtype=torch.float64)
    by_hand = (0.47**2 + 0.28**2 + 0.19**2 + 0.1**2 + 0.1**2) / 3 / 3
    assert self_ensembling.consistency(answers, taught(), mask.double()).item() == pytest.approx(by_hand, rel=1e-12)
    mean = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    by_hand = -sum(math.log(p) / 3 + 2 * math.log(1 - p) / 3 for p in (0.7, 0.2, 0.1))
    assert self_ensembling.class_balance(mean).item() == pytest.approx(by_hand, rel=1e-12)
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert self_ensembling.class_balance(even) < self_ensembling.class_balance(mean)


def test_augmentation_by_hand():
    images = shapes.domain(6).images
    nothing = torch.zeros(6, 2, 2), torch.zeros(6, 2), torch.zeros(6, 1, 16, 16)
    plain = images.float() / 255
    assert torch.allclose(self_ensembling.augmented(images, *nothing), plain, atol=1e-5)
    flat, noise = torch.full_like(images, 51), torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    ends = torch.tensor([[1.0, -1.0]]).expand(6, 2)
    expected = 0.2 * 1.25 - 0.1 + 0.1 * noise
    assert torch.allclose(self_ensembling.augmented(flat, nothing[0], ends, noise), expected, atol=1e-5)
    upside = torch.tensor([[-20.0, 0.0], [0.0, -20.0]]).expand(6, 2, 2)  # 1 - 20 x 0.1 = -1: turned by 180 degrees
    turned = self_ensembling.augmented(images, upside, *nothing[1:])
    assert torch.allclose(turned, plain.flip(-1, -2), atol=1e-4)


def method_of(folder, model="lenet", **options):
    context = shapes.context(folder, SelfEnsembling(model=model, batch_size=30, steps=150, shift=1, **options))
    return self_ensembling.MeanTeacher(context, frozen(context.new_model()), Run(folder / "run"))


def test_student_and_teacher_see_the_same_images_differently(tmp_path):
    method = method_of(tmp_path)
    source, labels, student, teacher = method.load(torch.arange(30), 3)
    assert source.shape == student.shape == teacher.shape == (30, 1, 16, 16) and source.dtype == torch.float32
    plain = method.context.target.images[:30].float() / 255
    for view in (student, teacher):
        pairs = zip(view, plain, strict=True)
        alike = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item() for a, b in pairs]
        assert sum(alike) / 30 > 0.2
    assert (student - teacher).abs().mean() > 0.05
    again, later = method.load(torch.arange(30), 3), method.load(torch.arange(30), 4)
    assert torch.equal(again[2], student) and torch.equal(again[1], labels) and not torch.equal(later[2], student)
    names = method.name_batch(torch.arange(30), 3)
    assert len(names) == 60 and names[30:] == method.context.target.names(torch.arange(30))


def test_a_step_is_the_published_one(tmp_path):
    method = method_of(tmp_path, confidence=0.9)
    torch.nn.init.normal_(method.student.network.classifier.weight, generator=torch.Generator().manual_seed(2))
    method.teacher.network.load_state_dict(method.student.network.state_dict())
    source, labels, of_student, of_teacher = batch = method.load(torch.arange(30), 0)
    student, teacher = (copy.deepcopy(each.network) for each in (method.student, method.teacher))

    def logits(images):
        return student((images - 0.5) / 0.25)

    right = teacher((of_teacher - 0.5) / 0.25).softmax(1).detach()
    answers, mask = logits(of_student).softmax(1), (right.max(1).values > 0.9).float()
    assert 0 < mask.sum() < 30
    loss = F.cross_entropy(logits(source), labels)
    agreement = 3 * sum(m * ((a - t) ** 2).sum() / 3 for m, a, t in zip(mask, answers, right, strict=True)) / 30
    mean = answers.mean(0)
    balance = -(mean.log() / 3 + (1 - mean).log() * 2 / 3).sum() * mask.sum() / 30 * 3 * 0.005
    adam = torch.optim.Adam(student.parameters(), 1e-3, betas=(0.9, 0.999))
    (loss + agreement + balance).backward()
    adam.step()

    losses = method.step(batch, 0)
    for name, value in (("loss", loss), ("loss_consistency", agreement), ("loss_balance", balance)):
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4)
    assert losses["confident"].item() == pytest.approx(mask.mean().item())
    for name, weight in student.state_dict().items():
        assert torch.allclose(method.student.network.state_dict()[name], weight, atol=2e-5), name
        expected = 0.99 * teacher.state_dict()[name] + 0.01 * weight
        assert torch.allclose(method.teacher.network.state_dict()[name], expected, atol=2e-6), name


def test_the_teacher_has_the_statistics_of_the_target(tmp_path):
    """The student's come from both domains."""
    method = method_of(tmp_path, model="digits")
    batch = method.load(torch.arange(30), 0)
    method.step(batch, 0)
    convolution = copy.deepcopy(method.context.new_model()).network.stages[0]
    with torch.no_grad():
        mean = convolution(method.teacher.normalized(batch[3])).mean((0, 2, 3))
    found = method.teacher.network.stages[1]
    assert torch.allclose(found.running_mean, 0.1 * mean, atol=1e-5) and found.num_batches_tracked == 1
    assert method.student.network.stages[1].num_batches_tracked == 2


def test_it_gains_on_a_paler_domain(tmp_path):
    """With batch norm, without which the source model takes all of the target for one class."""
    context = shapes.context(tmp_path, SMALL)
    adapted = self_ensembling.adapt(context)
    test = shapes.domain(150, 7, target=True)
    right = [
        (probabilities(model, test.images, context.runtime).argmax(1) == test.labels).float().mean().item()
        for model in (adapted.source_only, adapted.model)
    ]
    assert right[1] > right[0] + 0.1, right
    assert len(adapted.candidates.scores) == 4
