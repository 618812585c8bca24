"""A pool of earlier generated images that a discriminator sees again (Shrivastava et al. 2017)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """A buffer of `size` generated images. As part of a method's `state` it is saved and resumed.

    Until it is full, every new image is stored and returned. Afterwards each new image is, with probability 1/2,
    either returned, or exchanged with a random image of the buffer, which is returned instead (Zhu et al. 2017).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images = torch.empty(0)

    def exchange(self, images: Tensor, random: torch.Generator) -> Tensor:
        """(N, ...) generated images -> (N, ...), about half of them old ones once the pool is full. No gradients."""
        images = images.detach()
        if not self.size:
            return images
        returned = images.clone()
        swaps = torch.rand(len(images), generator=random) < 0.5
        positions = torch.randint(self.size, (len(images),), generator=random)
        for number, (swap, position) in enumerate(zip(swaps.tolist(), positions.tolist(), strict=True)):
            if len(self.images) < self.size:
                new = images[number : number + 1]
                self.images = torch.cat([self.images.to(new), new]) if len(self.images) else new.clone()
            elif swap:
                returned[number] = self.images[position].to(returned)
                self.images[position] = images[number].to(self.images)
        return returned

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.images = state["images"].clone()
