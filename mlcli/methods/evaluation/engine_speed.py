"""Images a second of a network by engine and precision, measured alternately."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Compute = Callable[[Tensor], Tensor]  # normalized images (N, C, H, W) -> logits (N, classes)


@dataclass
class Candidate:
    """A way to compute a network.

    seconds: of its preparation.  rates: images a second, one for each round.  same: fraction of the images with the
    first class of torch in fp32.  difference: the largest one of probabilities.  error: why it cannot compute.
    """

    engine: str
    precision: str
    compute: Compute | None = None
    seconds: float = 0.0
    rates: list[float] = field(default_factory=list)
    same: float | None = None
    difference: float | None = None
    error: str = ""

    @property
    def rate(self) -> float:
        """The median of the rounds; 0 without any."""
        return statistics.median(self.rates) if self.rates else 0.0


@torch.inference_mode()
def measure(
    candidates: Sequence[Candidate],
    batch: Tensor,
    *,
    rounds: int,
    least_seconds: float,
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Fill in the rates. In each round every candidate computes the batch for at least so many seconds.

    The rounds go over all candidates, so that what else the machine does meets them alike. batch: normalized images, on
    the device. done: called with the number of measurements that are done.
    """
    able = [candidate for candidate in candidates if candidate.compute is not None]
    for candidate in able:  # memory is allocated and kernels are chosen
        _timed(candidate, batch, 0.0)
    for number in range(rounds * len(able)):
        candidate = able[number % len(able)]
        candidate.rates.append(_timed(candidate, batch, least_seconds))
        done(number + 1)


def _timed(candidate: Candidate, batch: Tensor, least_seconds: float) -> float:
    """Images a second."""
    assert candidate.compute is not None
    began, images = time.perf_counter(), 0
    while True:
        candidate.compute(batch)
        images += len(batch)
        if batch.device.type == "cuda":
            torch.cuda.synchronize(batch.device)
        if (took := time.perf_counter() - began) >= least_seconds:
            return images / took


@torch.inference_mode()
def compare(candidates: Sequence[Candidate], images: Tensor, batch_size: int) -> None:
    """Fill in how far the predictions for images are from those of the first candidate, torch in fp32."""
    reference = _probabilities(candidates[0], images, batch_size)
    for candidate in candidates:
        if candidate.compute is not None:
            found = _probabilities(candidate, images, batch_size)
            candidate.same = (found.argmax(1) == reference.argmax(1)).double().mean().item()
            candidate.difference = (found - reference).abs().max().item()


def _probabilities(candidate: Candidate, images: Tensor, batch_size: int) -> Tensor:
    assert candidate.compute is not None
    parts = [candidate.compute(part).float().softmax(1).cpu() for part in images.split(batch_size)]
    return torch.cat(parts)


def fastest(candidates: Sequence[Candidate], least_same: float) -> Candidate:
    """The candidate with the greatest rate of those whose first classes agree with torch's in fp32 so often."""
    able = [each for each in candidates if each.rates and (each.same is None or each.same >= least_same)]
    return max(able, key=lambda each: each.rate)
