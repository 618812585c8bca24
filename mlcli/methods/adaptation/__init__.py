"""Unsupervised domain adaptation: a labeled source, an unlabeled target. METHODS is the only list of the methods.

Each is a module with a function `adapt(setting) -> AdaptationResult` (both in mlcli.methods.adaptation.context).
"""

from typing import NamedTuple

from mlcli.methods.adaptation import configs


class Entry(NamedTuple):
    module: str  # in mlcli.methods.adaptation
    config: type[configs.Adaptation]
    tasks: tuple[str, ...]
    words: str


METHODS = {
    "adda": Entry("adda", configs.Adda, ("classify",), "an encoder of the target that a discriminator cannot tell"),
    "cycada": Entry("cycada", configs.Cycada, ("classify",), "a translation that keeps the class, then the same"),
    "simgan": Entry("simgan", configs.SimGan, ("classify",), "a classifier of synthetic images refined to look real"),
    "seuda": Entry("seuda", configs.Seuda, ("classify", "segment"), "a target made to look as the source model knows"),
}
