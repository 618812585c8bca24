"""Unsupervised domain adaptation: a labelled source, an unlabelled target. METHODS is the only list of the methods.

Each is a module with a function `adapt(setting) -> Adapted` (both in mlcli.methods.adaptation.context).
"""

from typing import NamedTuple

from mlcli.methods.adaptation import recipes


class Entry(NamedTuple):
    module: str  # in mlcli.methods.adaptation
    recipe: type[recipes.Adaptation]
    tasks: tuple[str, ...]
    words: str


METHODS = {
    "adda": Entry("adda", recipes.Adda, ("classify",), "an encoder of the target that a discriminator cannot tell"),
    "cycada": Entry("cycada", recipes.Cycada, ("classify",), "a translation that keeps the class, then the same"),
    "simgan": Entry("simgan", recipes.SimGan, ("classify",), "a classifier of synthetic pictures refined to look real"),
    "seuda": Entry("seuda", recipes.Seuda, ("classify", "segment"), "a target made to look as the source model knows"),
}
