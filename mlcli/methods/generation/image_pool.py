"""The history of generated pictures that a discriminator is shown again (Shrivastava et al. 2017)."""

import torch
from torch import Tensor


class HistoryPool:
    """The last generated pictures in a buffer of `size`; put it into a method's `state`, which saves and resumes it.

    Until it is full, every picture is kept and given back. Then each new one is, with probability a half, given back
    as it is, or takes the place of an old one drawn at random, which is given back in its stead (Zhu et al. 2017).
    """

    def __init__(self, size: int):
        self.size = size
        self.pictures = torch.empty(0)

    def exchange(self, pictures: Tensor, random: torch.Generator) -> Tensor:
        """(N, ...) generated pictures -> (N, ...), half of them old ones once the pool is full. No gradients."""
        pictures = pictures.detach()
        if not self.size:
            return pictures
        given = pictures.clone()
        swaps = torch.rand(len(pictures), generator=random) < 0.5
        places = torch.randint(self.size, (len(pictures),), generator=random)
        for number, (swap, place) in enumerate(zip(swaps.tolist(), places.tolist(), strict=True)):
            if len(self.pictures) < self.size:
                new = pictures[number : number + 1]
                self.pictures = torch.cat([self.pictures.to(new), new]) if len(self.pictures) else new.clone()
            elif swap:
                given[number] = self.pictures[place].to(given)
                self.pictures[place] = pictures[number].to(self.pictures)
        return given

    def state_dict(self) -> dict:
        return {"pictures": self.pictures}

    def load_state_dict(self, state: dict) -> None:
        self.pictures = state["pictures"].clone()
