"""Source hypothesis transfer, SHOT (Liang, Hu and Feng 2020): adaptation without the images of the source.

1. The source model f_s = h(g_s(x)) is trained on the labeled source, with labels smoothed by alpha = 0.1 (eq. 1).
2. The hypothesis h is fixed. The encoder g_t starts from g_s and learns from target images alone,
       min_g   L_ent + L_div + beta E[-log d_y(f_t(x))]                                          (eq. 6)
       L_ent = -E[sum_k d_k(f_t(x)) log d_k(f_t(x))]           each answer is certain            (eq. 3)
       L_div = sum_k p_k log p_k,  p = E[d(f_t(x))]            all together they are diverse     (eq. 3)
   where d is the softmax, f_t(x) = h(g_t(x)), and y the pseudo-label of x. L_ent + L_div is minus the mutual
   information of images and answers.
3. Pseudo-labels come from the structure of the target, once an epoch: the centroid of each class,
       c_k = sum_x d_k(f_t(x)) g_t(x) / sum_x d_k(f_t(x)),                                       (eq. 4)
   labels each image by its nearest centroid, by the cosine; these labels, in the place of d, give the centroids that
   label the images for the epoch                                                                (eq. 5)
4. h(g_t(x)) classifies the target.

h is the last linear layer, and g all that lies below it. Batch norms take the statistics of the target. Dropout is off.

Deviations: h has no weight normalization, and g no bottleneck with a batch norm, so that any classifier can be adapted,
one that others have trained too; for digits a LeNet with batch norms takes their place. Adam with a cosine schedule in
place of SGD. Target images are moved at random by up to `shift` pixels and `rotate` degrees, as source images are; the
paper moves them where they are photographs. Pseudo-labels are those of images that are not moved. A class of which
there is no pseudo-label keeps its first centroid.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import (
    AdaptationContext,
    AdaptationResult,
    TargetTraining,
    frozen,
    inference_batch,
)
from mlcli.methods.adaptation.encoder import head_and_body, penultimate, still_dropout
from mlcli.methods.adaptation.registry import Shot
from mlcli.models.model import Model
from mlcli.runtime.processes import Processes
from mlcli.training.optimizers import FusedAdam
from mlcli.training.run_folder import Run
from mlcli.training.schedules import SCHEDULES


def adapt(context: AdaptationContext[Shot]) -> AdaptationResult:
    """Stages: source, unless a source model is given; adapted."""
    f = supervised_stage.source_model(context)
    run, config = context.stage("adapted"), context.config
    plan = context.plan(len(context.target), config.steps, config.batch_size)
    method = SHOT(context, f, run, plan.steps, plan.steps_per_epoch)
    context.fit(run, method, plan)
    context.choose(run, method, method.candidates)
    return AdaptationResult(f, frozen(method.model), context.stages("adapted"), method.candidates)


class PseudoLabels:
    """The pseudo-label of each target image (N,) for the current epoch, -1 before the first; part of the state."""

    def __init__(self, images: int) -> None:
        self.labels = torch.full((images,), -1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"labels": self.labels}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.labels = state["labels"]


class SHOT(TargetTraining):
    """Training of g_t; training.loop drives it. epoch: steps after which pseudo-labels are found anew."""

    def __init__(self, context: AdaptationContext[Shot], f: Model, run: Run, steps: int, epoch: int) -> None:
        super().__init__(context, context.copy(f), run)
        self.steps, self.epoch = steps, epoch
        _, self.encoder = head_and_body(self.model.network)
        for p in self.encoder:
            p.requires_grad_(True)
        self.lr = self.config.lr * (self.config.backbone if self.config.pretrained else 1)
        self.adam = FusedAdam(self.encoder, self.lr, (self.config.beta1, self.config.beta2))
        self.pseudo = PseudoLabels(len(context.target))
        self.state: dict[str, Any] = {
            "network": self.model.network,
            "adam": self.adam,
            "candidates": self.candidates,
            "pseudo_labels": self.pseudo,
        }

    def load(self, indices: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(target images (B, C, S, S) uint8, their indices (B,))."""
        images = self.context.target.images[indices]
        return supervised_stage.moved(self.context, images, "shot/moves", step), indices

    def step(self, batch: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        if step % self.epoch == 0:
            self.pseudo.labels = self.pseudo_labels()
        images, labels = batch[0].to(self.runtime.device, non_blocking=True), self.pseudo.labels[batch[1]]
        for group in self.adam.param_groups:
            group["lr"] = self.lr * SCHEDULES["cosine"](step, self.steps)
        self.model.network.train()
        still_dropout(self.model.network)
        with self.runtime.autocast():
            logits = self.model(images)
        logits = logits.float()  # (B, K)
        loss_ent, loss_div = entropy_losses(logits, self.processes)
        loss_pseudo = F.cross_entropy(logits, labels.to(self.runtime.device))
        self.adam.zero_grad()
        (loss_ent + loss_div + self.config.pseudo * loss_pseudo).backward()
        self.processes.average_gradients(self.encoder)
        self.adam.step()
        self.steps_done = step + 1
        return {"loss_ent": loss_ent, "loss_div": loss_div, "loss_pseudo": loss_pseudo}

    @torch.no_grad()
    def pseudo_labels(self) -> Tensor:
        """The pseudo-label (N,) of each target image, by the encoder as it is."""
        features, answers = [], []
        self.model.network.eval()
        with penultimate(self.model.network) as caught:
            for part in self.context.target.images.split(inference_batch(self.context.target.images)):
                answers.append(self.model(part.to(self.runtime.device)).float().softmax(1).cpu())
                features.append(caught.pop().float().cpu())
        return nearest_centroids(torch.cat(features), torch.cat(answers))


def entropy_losses(logits: Tensor, processes: Processes) -> tuple[Tensor, Tensor]:
    """(L_ent, L_div) of a batch (B, K), eq. 3, in nats: at most log K and at least -log K.

    L_div is of the batch of all processes, whose gradients are averaged afterwards.
    """
    d = logits.softmax(1)
    p = processes.mean_of_parts(d.mean(0))
    return -(d * logits.log_softmax(1)).sum(1).mean(), torch.xlogy(p, p).sum()


def nearest_centroids(features: Tensor, d: Tensor) -> Tensor:
    """The pseudo-labels (N,) of images with features (N, F) and probabilities d (N, K), eq. 4 and 5.

    Features count by their direction alone, as in the public code, which gives them a constant 1 besides.
    """
    directions = F.normalize(F.pad(features, (0, 1), value=1.0))
    centroids = d.T @ directions / d.sum(0).clamp(min=1e-8)[:, None]  # (K, F + 1)
    labels = (directions @ F.normalize(centroids).T).argmax(1)
    counts = labels.bincount(minlength=d.shape[1])
    sums = torch.zeros_like(centroids).index_add_(0, labels, directions)
    centroids = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centroids)
    return (directions @ F.normalize(centroids).T).argmax(1)
