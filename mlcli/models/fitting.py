"""Which tensors of a file belong to which of a network's, and what to say where they do not fit.

Training scripts wrap networks: in DataParallel (`module.`), a compiled module (`_orig_mod.`), an attribute of a larger
module (`model.`, `backbone.`, `net.`), or several of these at once, with tensors of losses and averages beside.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mlcli.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that served training, of GoogLeNet and Inception
AVERAGE = re.compile(r"(^|[._])ema([._]|$)")
COUNTER = "num_batches_tracked"  # of a batch norm; files of before 2018 have none, and nothing is computed from it
# What keeps a weight in several tensors, from which it is computed again in every step -> how to get the weight itself
SPLIT = {
    r"\.parametrizations\.": "torch.nn.utils.parametrize.remove_parametrizations",
    r"weight_[gv]$": "torch.nn.utils.remove_weight_norm",
    r"weight_(orig|mask)$": "torch.nn.utils.prune.remove, or remove_spectral_norm",
}


@dataclass(frozen=True)
class Misfit:
    """What keeps tensors from a network: names that only one side has, and names whose shapes differ."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]  # by name, that of the file and the network's

    @classmethod
    def between(cls, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> "Misfit":
        return cls(
            tuple(key for key in own if key not in tensors and not key.endswith(COUNTER)),
            tuple(key for key in tensors if key not in own),
            {
                key: (tuple(tensors[key].shape), tuple(own[key].shape))
                for key in own
                if key in tensors and tensors[key].shape != own[key].shape
            },
        )

    def __len__(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.shapes)

    def __str__(self) -> str:
        shapes = [f"{key} {size(theirs)} for {size(own)}" for key, (theirs, own) in self.shapes.items()]
        parts = (("lacks", self.missing), ("has the unknown", self.unknown), ("has other shapes:", shapes))
        return "; ".join(f"{problem} {some(what)}" for problem, what in parts if what)

    def fits_but_for_classes(self) -> bool:
        """Whether all that differs is the length of some tensors' first dimension, the same for all of them."""
        return not self.missing and not self.unknown and (not self.shapes or self.lengths() is not None)

    def lengths(self) -> tuple[int, int] | None:
        """(of the file, of the network), where shapes differ in the first dimension alone, by the same lengths."""
        pairs = set()
        for theirs, own in self.shapes.values():
            if not theirs or not own or theirs[1:] != own[1:]:
                return None
            pairs.add((theirs[0], own[0]))
        return pairs.pop() if len(pairs) == 1 else None


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "1"


# -- names -----------------------------------------------------------------------------------------------------------


def fitted(tensors: Mapping[str, Tensor], network: nn.Module, file: object) -> dict[str, Tensor]:
    """The tensors of a file under the network's own names, as far as one can tell.

    What wraps a network is taken off the names: wrappers wherever they stand, and a prefix where the rest fits better
    without it. Tensors outside the prefix are left out (a loss's, a projection's); so are auxiliary heads that the
    network lacks and buffers that it computes itself. Of several networks in the file that fit, the one whose prefix
    says that it is an average (`ema`) is taken. Raises WeightsError where that does not decide.
    """
    own = network.state_dict()
    computed = {name for name, _ in network.named_buffers()} - own.keys()
    groups = [
        (prefix, _useful(_group(named, prefix), own, computed))
        for named in (tensors, _unwrapped(tensors, own))
        for prefix in _prefixes(named, own)
    ]
    candidates = [(prefix, group, Misfit.between(group, own)) for prefix, group in groups]
    fitting = [(prefix, group) for prefix, group, misfit in candidates if misfit.fits_but_for_classes()]
    if not fitting:
        # What is nearest is what is spoken of, where it is near at all
        _, group, misfit = min(candidates, key=lambda candidate: len(candidate[2]))
        return group if 2 * len(misfit.missing) <= len(own) else dict(tensors)
    averages = [(prefix, group) for prefix, group in fitting if AVERAGE.search(prefix)]
    (name, chosen), *others = averages or fitting
    for other, group in others:
        if not _equal(chosen, group):
            raise WeightsError(
                f"{file}: holds several networks that fit, {name or 'one without a prefix'} and {other}; "
                "save the one to use in a file of its own"
            )
    return chosen


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether what both have has the same values."""
    return all(
        a[key] is b[key] or a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a.keys() & b.keys()
    )


def _unwrapped(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without wrappers anywhere in their names; empty where names would meet."""
    wrappers = WRAPPERS - {segment for key in own for segment in key.split(".")}
    result = {".".join(part for part in key.split(".") if part not in wrappers): t for key, t in tensors.items()}
    return result if len(result) == len(tensors) else {}


def _prefixes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What stands before at least half as many of the network's names as before the most; '' where nothing does."""
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in own:
                counts[".".join(parts[:depth])] += 1
    if not counts:
        return [""]
    most = max(counts.values())
    return [prefix for prefix, count in counts.most_common() if 2 * count >= most]


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    if not prefix:
        return dict(tensors)
    return {key[len(prefix) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(prefix + ".")}


def _useful(tensors: dict[str, Tensor], own: Mapping[str, Tensor], computed: Collection[str]) -> dict[str, Tensor]:
    """Without what the network can do without."""
    auxiliary = () if any(key.startswith(AUXILIARY) for key in own) else AUXILIARY
    return {
        key: tensor
        for key, tensor in tensors.items()
        if key in own or not (key.startswith(auxiliary) or key in computed or key.endswith(COUNTER))
    }


# -- classes ---------------------------------------------------------------------------------------------------------


def classes_of(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], classes: int) -> int | None:
    """The number of classes of the tensors where it alone is another than the network's `classes`; else None.

    It is read from the last layers: what differs has `classes` for its first dimension. A network without a last
    layer (0 classes) has as many as the tensors that it does not know agree on.
    """
    misfit = Misfit.between(tensors, own)
    if classes == 0 and misfit.unknown and not misfit.missing and not misfit.shapes:
        lengths = {tensors[key].shape[0] if tensors[key].ndim else 0 for key in misfit.unknown}
        return lengths.pop() if len(lengths) == 1 else None
    if not misfit.fits_but_for_classes() or (differing := misfit.lengths()) is None:
        return None
    theirs, mine = differing
    return theirs if mine == classes else None


# -- messages --------------------------------------------------------------------------------------------------------


def advice(tensors: Mapping[str, Tensor], misfit: Misfit, head: Collection[str]) -> str:
    """What would help, as the end of a sentence; empty where nobody knows. head: the names of the last layer."""
    for pattern, remedy in SPLIT.items():
        split = [key for key in misfit.unknown if re.search(pattern, key)]
        if split:
            return f"; its weights are kept in parts: join them where it was made ({remedy}) and save it again"
    if misfit.missing and set(misfit.missing) <= set(head) and misfit.unknown and not misfit.shapes:
        layers = [key for key in misfit.unknown if tensors[key].ndim > 1]
        if len(layers) == 1:
            name, shape = layers[0], size(tensors[layers[0]].shape)
            return (
                f"; all but the last layer fits, which is {name} ({shape}) there: if nothing but dropout stands before "
                f"it, save it as {some(misfit.missing)}"
            )
        return "; all but the last layer fits, which is built otherwise there: leave it out, and finetune the rest"
    return ""


# -- loading ---------------------------------------------------------------------------------------------------------


def built(build: Callable[[], Network], tensors: Mapping[str, Tensor], file: str | Path) -> Network:
    """The network that a file describes, with the tensors of the file. build: makes it, with weights of any kind.

    It is made of shapes alone first: a description that asks for more than the file holds takes no memory and no time.
    Raises WeightsError where that does not fit, and what `build` raises.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without a value, as the last one of no classes is
            shapes = build().state_dict()
    except (NotImplementedError, RuntimeError):  # some of torchvision's compute with values as they are built
        shapes = None
    if shapes is not None and (misfit := Misfit.between(tensors, shapes)):
        raise WeightsError(f"{file}: does not fit the network: {misfit}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = build()
    fill(network, tensors, file)
    return network


def fill(network: nn.Module, tensors: Mapping[str, Tensor], file: str | Path) -> None:
    """Load tensors into a network, in its own precision. Raises WeightsError where they do not fit."""
    own = network.state_dict()
    misfit = Misfit.between(tensors, own)
    if misfit:
        raise WeightsError(f"{file}: does not fit the network: {misfit}")
    quantized = [key for key, tensor in tensors.items() if tensor.is_quantized]
    if quantized:
        raise WeightsError(f"{file}: {some(quantized)} are quantized; save the weights from before that")
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)
