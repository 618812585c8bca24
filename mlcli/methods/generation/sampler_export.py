"""A generator of `mlcli gan` as the subject of an export: noise, and classes where it knows some, to images."""

import torch
from torch import Tensor, nn

from mlcli.methods.generation.sampling import SAMPLER, Sampler
from mlcli.models.exports.subject import IMAGES, Subject, batches


class GeneratorOutputs(nn.Module):
    """Noise (N, latent) from N(0, 1), and labels (N,) where there are classes -> (images (N, C, S, S) in [0, 1],)."""

    def __init__(self, sampler: Sampler):
        super().__init__()
        self.network = sampler.network

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        return ((self.network(noise, labels) + 1) / 2,)


def subject(sampler: Sampler) -> Subject:
    """The generator; its classes are in the description."""
    network = GeneratorOutputs(sampler).to("cpu").to(memory_format=torch.contiguous_format).eval()
    random, options = torch.Generator().manual_seed(0), sampler.network.options
    inputs = {"noise": torch.randn(2, options["latent"], generator=random)}
    if sampler.classes:
        inputs["labels"] = torch.tensor([0, len(sampler.classes) - 1])
    description = {**options, "classes": list(sampler.classes), "weights_sha256": sampler.hash}
    return Subject(SAMPLER.name, network, inputs, (IMAGES,), batches((*inputs, IMAGES)), description)
