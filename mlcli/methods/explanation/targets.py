"""What is explained: the value of a class, of a unit, or of any objective of `mlcli maximize`, as text.

predicted        the most probable class of each image
top-3            the three most probable classes, with an explanation for each
tiger, 292, n02129604
                 a class: its label, a synonym, its number or its WordNet id
conv4:12, "conv4:12@center - 0.5*conv4:7"
                 an expression, as in `objective_parser`; several units (conv4:0-3) are several targets
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.methods.visualization.objective_parser import parse
from mlcli.methods.visualization.objectives import PENALTIES, Objective, Term
from mlcli.models.model import Model
from mlcli.models.structure import features

PREDICTED = "predicted"
RANKED = re.compile(r"top-([1-9][0-9]{0,3})")
EXPRESSION = re.compile(r"[:*()+@]")  # what an expression has and a mistyped class has not


@dataclass(frozen=True)
class Target:
    """A value of the network for one image.

    name: as the user is told.  index: of its class, None for an expression.  against: the index of the class whose
    value is subtracted, or None.
    """

    name: str
    objective: Objective
    index: int | None = None
    against: int | None = None

    def probability(self, logits: Tensor) -> float | None:
        """Of the class, of logits (classes,); beside the other class alone where there is one. None for an expression.

        Between two classes, the sigmoid of the difference is the probability of the first.
        """
        if self.index is None:
            return None
        if self.against is None:
            return logits.float().softmax(0)[self.index].item()
        return (logits[self.index] - logits[self.against]).float().sigmoid().item()


class Targets:
    """The targets that texts name, for each image by its logits.

    model: its classes are named.  against: a class whose value is subtracted from each target; it is no predicted one.
    Raises UsageError for an unknown class or layer, for a target that is an image's alone, and for `against` itself.
    """

    def __init__(self, model: Model, texts: Sequence[str], against: str | None = None) -> None:
        self.model = model
        self.last = features.layers(model)[-1]
        self.against = None if against is None else _class(model, against, "--against")
        self.entries: list[int | Target] = []  # the number of predicted classes, or a target
        for text in texts:
            self.entries += self._read(text)
        if self.ranked:
            model.require_classes()

    @property
    def ranked(self) -> bool:
        """Whether a target depends on what is predicted."""
        return any(isinstance(entry, int) for entry in self.entries)

    @property
    def objectives(self) -> list[Objective]:
        """Those whose layers are needed: of all targets, of whatever image."""
        some = [self._of_class(0)] if self.ranked else []
        return [target.objective for target in [*some, *self.fixed]]

    @property
    def fixed(self) -> list[Target]:
        """The targets that are the same for all images."""
        return [entry for entry in self.entries if isinstance(entry, Target)]

    def of(self, logits: Tensor | None) -> list[Target]:
        """The targets of an image, none twice. logits: (classes,), None for a network without classes."""
        found: dict[str, Target] = {}
        for entry in self.entries:
            if isinstance(entry, Target):
                found.setdefault(entry.name, entry)
                continue
            assert logits is not None  # `require_classes`
            order = logits.float().argsort(descending=True, stable=True).tolist()
            for index in [index for index in order if index != self.against][:entry]:
                target = self._of_class(index)
                found.setdefault(target.name, target)
        return list(found.values())

    def _read(self, text: str) -> list[int | Target]:
        text = text.strip()
        if text == PREDICTED:
            return [1]
        if ranked := RANKED.fullmatch(text):
            return [int(ranked[1])]
        if self.model.classes and self.model.names.matches(text):
            return [self._of_class(_class(self.model, text))]
        if not EXPRESSION.search(text) and not self._is_layer(text):
            return [self._of_class(_class(self.model, text))]
        return [self._of_expression(objective) for objective in parse(text, self.model)]

    def _is_layer(self, text: str) -> bool:
        try:
            return bool(features.resolve(self.model, re.split(r"[ -]", text.strip("- "))[0]).shape)
        except UsageError:
            return False

    def _of_class(self, index: int) -> Target:
        if index == self.against:
            raise UsageError(f"--against {self.model.classes[index]}: is the target itself; name another class")
        name = self.model.classes[index]
        return self._subtracted(Target(name, Objective(((1.0, self._logit(index)),)), index))

    def _of_expression(self, objective: Objective) -> Target:
        for _, term in objective.terms:
            if term.kind == "diversity" or term.kind in PENALTIES:
                raise UsageError(
                    f"--target {objective}: {term.text} is no value of the network for one image; leave it out"
                )
        return self._subtracted(Target(str(objective), objective))

    def _subtracted(self, target: Target) -> Target:
        if self.against is None:
            return target
        terms = (*target.objective.terms, (-1.0, self._logit(self.against)))
        name = f"{target.name} against {self.model.classes[self.against]}"
        return Target(name, Objective(terms), target.index, self.against)

    def _logit(self, index: int) -> Term:
        return Term(f"logit:{self.model.classes[index]}", "unit", self.last, index)


def _class(model: Model, text: str, option: str = "--target") -> int:
    model.require_classes()
    try:
        return model.class_index(text)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None


def probabilities(targets: Sequence[Target], logits: Tensor) -> Tensor:
    """How strongly images (rows of logits (N, classes)) have each target's class, (N,); see `Target.probability`."""
    return torch.tensor([target.probability(row) for target, row in zip(targets, logits, strict=True)])
