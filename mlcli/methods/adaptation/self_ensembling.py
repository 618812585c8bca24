"""Self-ensembling for visual domain adaptation (French, Mackiewicz and Fisher 2018).

A student learns from the labels of the source, and from its teacher on the target. Both start from the source model.
The teacher's weights are the exponential moving average of the student's, with a decay of 0.99 (mean teacher, Tarvainen
and Valpola 2017). With softmax probabilities of K classes, the student minimizes
    CE(student(a(x_s)), y_s)
    + w mean_i m_i |student(a(x_t,i)) - teacher(a'(x_t,i))|^2 / K                               (section 3.1)
    + w b mean_i m_i sum_k BCE(mean_i student(a(x_t,i))_k, 1 / K)                               (section 3.4)
where a and a' are independent random augmentations, and
    m_i = 1 where max teacher(a'(x_t,i)) > 0.968, else 0       (confidence thresholding, section 3.2).
The last line, class balance, keeps the student from predicting few classes for all; it assumes that the classes of the
target are equally frequent. w is 3 and b 0.005, as in the public code. Images of source and target pass the student
apart, so that batch norm normalizes each domain by its own statistics; the running statistics of the teacher, which is
the result, come from the target alone (section 3.1).

Augmentation (section 3.3): random shifts, a random affine map whose matrix is the identity plus normal values with a
standard deviation of 0.1, and normal noise of 0.1 in units of the full range. As for SVHN in the paper, intensities are
scaled and offset at random, here mildly: by 0.75 to 1.25 and -0.1 to 0.1.

Deviations: the student starts from the source model, the paper's from random weights, and trains for fewer steps.
Shifts are whole pixels; rotations, and colors of source images, come from the options of the source model's training.
What is pretrained keeps the statistics of its batch norms. The result is chosen among checkpoints of the teacher,
without labels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.imaging.image_io import to_unit
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult, TargetTraining, frozen
from mlcli.methods.adaptation.encoder import head_and_body, keep_statistics
from mlcli.methods.adaptation.registry import SelfEnsembling
from mlcli.methods.generation import translation
from mlcli.models.model import Model
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run

AFFINE, NOISE = 0.1, 0.1  # standard deviations
SCALE, OFFSET = 0.25, 0.1  # largest changes of intensities


def adapt(context: AdaptationContext[SelfEnsembling]) -> AdaptationResult:
    """Stages: source, unless a source model is given; adapted (the teacher)."""
    f, run, config = supervised_stage.source_model(context), context.stage("adapted"), context.config
    method = MeanTeacher(context, f, run)
    context.fit(run, method, context.plan(len(context.target), config.steps, config.batch_size))
    context.choose(run, method, method.candidates)
    return AdaptationResult(f, frozen(method.teacher), context.stages("adapted"), method.candidates)


class MeanTeacher(TargetTraining):
    """Training of the student, whose average the teacher is; training.loop drives it."""

    def __init__(self, context: AdaptationContext[SelfEnsembling], f: Model, run: Run) -> None:
        self.student, self.teacher = context.copy(f), context.copy(f)
        super().__init__(context, self.teacher, run)
        self.student.network.requires_grad_(True)
        head, body = head_and_body(self.student.network)
        betas, factor = (self.config.beta1, self.config.beta2), self.config.backbone if self.config.pretrained else 1.0
        self.adams = FusedAdam(body, factor * self.config.lr, betas), FusedAdam(head, self.config.lr, betas)
        self.state: dict[str, Any] = {
            "student": self.student.network,
            "network": self.teacher.network,
            "adam": self.adams[0],
            "adam_of_head": self.adams[1],
            "candidates": self.candidates,
        }

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(source images, labels, target images for the student, the same for the teacher), augmented float32."""
        source, target = self.context.source, self.context.target.images[indices]
        assert source.labels is not None
        chosen = self.context.of_source(len(indices), "self-ensembling/partners", step)
        known = source.images[chosen]
        if self.config.recolor:
            known = supervised_stage.recolored(self.context, known, step)
        views = (
            self._augmented(images, f"self-ensembling/{name}", step)
            for images, name in ((known, "source"), (target, "student"), (target, "teacher"))
        )
        of_source, of_student, of_teacher = views
        return of_source, source.labels[chosen], of_student, of_teacher

    def _augmented(self, images: Tensor, purpose: str, step: int) -> Tensor:
        """Images (B, C, S, S) uint8 augmented at random: float32, 0 to 1 but for noise and offset."""
        images = supervised_stage.moved(self.context, images, f"{purpose}/moves", step)
        random, count = rng(self.context.seed, purpose, step), self.processes.count * len(images)
        maps, intensities, noise = (
            self.processes.shard(drawn)
            for drawn in (
                torch.randn((count, 2, 2), generator=random),
                torch.rand((count, 2), generator=random) * 2 - 1,
                torch.randn((count, *images.shape[1:]), generator=random),
            )
        )
        return augmented(images, maps, intensities, noise)

    def step(self, batch: tuple[Tensor, ...], step: int) -> dict[str, Tensor]:
        source, labels, of_student, of_teacher = (part.to(self.runtime.device, non_blocking=True) for part in batch)
        for model in (self.student, self.teacher):
            model.network.train()
            if self.config.pretrained:
                keep_statistics(model.network)
        with torch.no_grad(), self.runtime.autocast():
            taught = self.teacher(of_teacher).float().softmax(1)
        with self.runtime.autocast():
            of_source = self.student(source).float()
            answers = self.student(of_student).float().softmax(1)
        mask = confident(taught, self.config.confidence)
        terms = {
            "loss": F.cross_entropy(of_source, labels),
            "loss_consistency": self.config.consistency * consistency(answers, taught, mask),
            "loss_balance": self.config.consistency * self.config.balance * self._balance(answers, mask),
        }
        for adam in self.adams:
            adam.zero_grad()
        translation.total(terms).backward()
        self.processes.average_gradients(self.student.network.parameters())
        for adam in self.adams:
            adam.step()
        average(self.teacher, self.student, self.config.decay)
        self.steps_done = step + 1
        return terms | {"confident": mask.mean(), "accuracy": (of_source.detach().argmax(1) == labels).float().mean()}

    def _balance(self, answers: Tensor, mask: Tensor) -> Tensor:
        """Class balance over the batch of all processes, whose gradients are averaged afterwards."""
        return self.processes.mean(mask.mean()) * class_balance(self.processes.mean_of_parts(answers.mean(0)))

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.context.source.names(
            self.context.of_source(len(indices), "self-ensembling/partners", step)
        ) + self.context.target.names(indices)


def augmented(images: Tensor, maps: Tensor, intensities: Tensor, noise: Tensor) -> Tensor:
    """Images (N, C, S, S) uint8 as float32 in [0, 1], changed; noise and offset may lead out of it.

    maps: (N, 2, 2) standard normal, of the affine maps about the center; outside the border is reflected.
    intensities: (N, 2) in [-1, 1], of scale and offset.  noise: (N, C, S, S) standard normal.
    """
    matrices = torch.cat([torch.eye(2) + AFFINE * maps, torch.zeros(len(images), 2, 1)], 2)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    mapped = F.grid_sample(to_unit(images), grid, padding_mode="reflection", align_corners=False)
    scale, offset = (values[:, None, None, None] for values in intensities.unbind(1))
    return mapped * (1 + SCALE * scale) + OFFSET * offset + NOISE * noise


def confident(taught: Tensor, threshold: float) -> Tensor:
    """m_i: 1 for each row of the teacher's probabilities (N, K) whose largest is above the threshold, else 0: (N,)."""
    return (taught.amax(1) > threshold).float()


def consistency(answers: Tensor, taught: Tensor, mask: Tensor) -> Tensor:
    """mean_i m_i |answers_i - taught_i|^2 / K of probabilities (N, K): a scalar."""
    return (mask * (answers - taught).square().mean(1)).mean()


def class_balance(mean: Tensor) -> Tensor:
    """sum_k BCE(mean_k, 1 / K) of the mean probabilities (K,): a scalar, smallest where all are 1 / K."""
    return F.binary_cross_entropy(mean, torch.full_like(mean, 1 / len(mean)), reduction="sum")


@torch.no_grad()
def average(teacher: Model, student: Model, decay: float) -> None:
    """Take the student's weights into the teacher's: teacher = decay teacher + (1 - decay) student."""
    for mean, weight in zip(teacher.network.parameters(), student.network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
