"""The history of generated images that a discriminator is shown again (Shrivastava et al. 2017)."""

import torch
from torch import Tensor


class ImagePool:
    """The last generated images in a buffer of `size`; put it into a method's `state`, which saves and resumes it.

    Until it is full, every image is kept and given back. Then each new one is, with probability a half, given back
    as it is, or takes the place of an old one drawn at random, which is given back in its stead (Zhu et al. 2017).
    """

    def __init__(self, size: int):
        self.size = size
        self.images = torch.empty(0)

    def exchange(self, images: Tensor, random: torch.Generator) -> Tensor:
        """(N, ...) generated images -> (N, ...), half of them old ones once the pool is full. No gradients."""
        images = images.detach()
        if not self.size:
            return images
        given = images.clone()
        swaps = torch.rand(len(images), generator=random) < 0.5
        places = torch.randint(self.size, (len(images),), generator=random)
        for number, (swap, place) in enumerate(zip(swaps.tolist(), places.tolist(), strict=True)):
            if len(self.images) < self.size:
                new = images[number : number + 1]
                self.images = torch.cat([self.images.to(new), new]) if len(self.images) else new.clone()
            elif swap:
                given[number] = self.images[place].to(given)
                self.images[place] = images[number].to(self.images)
        return given

    def state_dict(self) -> dict:
        return {"images": self.images}

    def load_state_dict(self, state: dict) -> None:
        self.images = state["images"].clone()
