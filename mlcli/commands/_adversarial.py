"""Options of the commands that train a generator against a discriminator."""

from enum import StrEnum
from typing import Annotated

import typer


class Loss(StrEnum):
    non_saturating = "non-saturating"
    least_squares = "least-squares"
    hinge = "hinge"
    wasserstein = "wasserstein"


class Schedule(StrEnum):
    linear = "linear"
    cosine = "cosine"
    step = "step"
    constant = "constant"


LossOption = Annotated[Loss, typer.Option("--loss", help="Of the two players.")]
Penalty = Annotated[float, typer.Option("--gradient-penalty", min=0, help="Its weight in the wasserstein loss.")]
ScheduleOption = Annotated[
    Schedule, typer.Option("--schedule", help="Of the rates; linear: constant for one half, then to 0.")
]
