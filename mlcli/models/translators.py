"""Generators that translate images of one spec to images of another, and the files that hold them.

A file of translators names its directions ("AtoB", and "BtoA" where there is one), and for each all that is needed to
open it again: architecture, options, and the specs of the input and output images.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.data.pairs import ImageSpec
from mlcli.errors import UsageError
from mlcli.io.schema import boolean, choice, integer, items, mapping, number, record
from mlcli.models import artifacts
from mlcli.models.artifacts import ArtifactKind
from mlcli.models.fitting import built
from mlcli.networks.luminance import KeepLuminance
from mlcli.networks.norms import NORMS
from mlcli.networks.refiner import Refiner
from mlcli.networks.resnet_generator import ResNetGenerator
from mlcli.networks.unet import UNet, fitting_depth
from mlcli.networks.upsampling import UPSAMPLINGS
from mlcli.runtime.device import Runtime
from mlcli.training.run_folder import Run

DIRECTIONS = ("AtoB", "BtoA")
Generator = UNet | ResNetGenerator | Refiner | KeepLuminance
ARCHITECTURES: dict[str, type[UNet | ResNetGenerator | Refiner]] = {
    "unet": UNet,
    "resnet": ResNetGenerator,
    "refiner": Refiner,
}
# Names of whole networks, as the papers have them, with the options of their architecture
GENERATORS = {
    "unet": ("unet", {}),
    "resnet-9": ("resnet", {"blocks": 9}),
    "resnet-6": ("resnet", {"blocks": 6}),
    "pix2pixhd": ("resnet", {"blocks": 9, "downs": 4}),
    "refiner": ("refiner", {}),
}

# The description of a generator in a file
SPEC = record({"channels": choice(1, 3), "labels": integer(0, 256)}, closed=True)
GENERATOR = record(
    {
        "architecture": choice(*ARCHITECTURES),
        "options": record(
            {},
            {
                "depth": integer(1, 12),
                "filters": integer(1, 4096),
                "norm": choice(*NORMS),
                "dropout": number(0, 0.99),
                "upsampling": choice(*UPSAMPLINGS),
                "blocks": integer(0, 100),
                "downs": integer(0, 8),
                "keep_luminance": boolean,
            },
            closed=True,
        ),
        "source": SPEC,
        "target": SPEC,
        "size": items(integer(1, 1 << 16), 2, 2),
    },
)
TRANSLATOR = ArtifactKind(
    "translator",
    "pix2pix, cyclegan or adapt",
    record({"generators": record({}, dict.fromkeys(DIRECTIONS, mapping()), closed=True)}),
    files=("translator.safetensors", artifacts.MODEL_FILE),  # the run may hold another model as its result
)


@dataclass
class Translator:
    """A generator with everything that belongs to it.

    source, target: the specs of the input and output images.  size: (height, width) that it was trained at.
    """

    network: Generator
    architecture: str
    source: ImageSpec
    target: ImageSpec
    size: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) as `source` reads them, sides multiples of `multiple` -> (N, 1 or 3, H, W) in [0, 1]."""
        return self.target.to_images(self.network_output(images))

    def network_output(self, images: Tensor) -> Tensor:
        """The output of the network for the same images: (N, channels, H, W) in [-1, 1], float32."""
        inputs = self.source.normalized_input(images)
        weights = next(p for p in self.network.parameters() if p.ndim == 4)
        if weights.is_contiguous(memory_format=torch.channels_last):
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return self.network(inputs).float()

    @property
    def multiple(self) -> int:
        """The number of which both sides of an image must be multiples."""
        return 2**self.network.depth

    @property
    def smallest(self) -> int:
        """The smallest side of an image: norms need several values, and reflection padding pixels to reflect."""
        return self.multiple if self.architecture == "unet" else 4 * self.multiple

    def to(self, runtime: Runtime) -> "Translator":
        """The translator with its network on the runtime's device, in its memory format."""
        self.network.to(runtime.device).to(memory_format=runtime.memory_format)
        return self

    def describe(self) -> dict[str, Any]:
        """What a file of weights has to say of the generator to be opened again."""
        return {
            "architecture": self.architecture,
            "options": self.options,
            "source": asdict(self.source),
            "target": asdict(self.target),
            "size": list(self.size),
        }


def multiple(name: str, size: tuple[int, int]) -> int:
    """The number of which the sides of images must be multiples, for a generator by name of size (height, width)."""
    if GENERATORS[name][0] == "unet":
        return 2 ** fitting_depth(*size)
    return 2 ** GENERATORS[name][1].get("downs", 2) if GENERATORS[name][0] == "resnet" else 1


def create(name: str, source: ImageSpec, target: ImageSpec, size: tuple[int, int], **options: Any) -> Translator:
    """A translator of GENERATORS by name, with weights as torch draws them; options are those of the architecture.

    Raises UsageError where the network cannot be built for images of this size, (height, width).
    """
    architecture, own = GENERATORS[name]
    options = own | options
    if architecture == "unet":
        options["depth"] = fitting_depth(*size)
        if options["depth"] < 3:
            raise UsageError(f"{_words(size)}: a U-Net halves both sides at least three times; take multiples of 8")
    elif architecture == "resnet":
        step = multiple(name, size)
        if size[0] % step or size[1] % step or min(size) < 4 * step:
            raise UsageError(f"{_words(size)}: {name} takes sides that are multiples of {step}, from {4 * step} on")
    return Translator(_network(architecture, source, target, **options), architecture, source, target, size, options)


def _words(size: tuple[int, int]) -> str:
    return f"--size {size[1]}x{size[0]}"


def save(run: Run, translators: Mapping[str, Translator], networks: Mapping[str, nn.Module], **more: Any) -> None:
    """Write model.safetensors of a run: translators by direction, with the weights of `networks` (such as their EMA).

    more: further metadata of the file, as JSON values.
    """
    save_file(run.model_file, translators, networks, **more)


def save_file(
    file: Path, translators: Mapping[str, Translator], networks: Mapping[str, nn.Module], **more: Any
) -> None:
    """The same in any file."""
    tensors = {
        f"{direction}.{name}": tensor
        for direction in translators
        for name, tensor in networks[direction].state_dict().items()
    }
    described = {direction: translator.describe() for direction, translator in translators.items()}
    artifacts.save(file, tensors, {"kind": TRANSLATOR.name, "generators": described, **more})


def load(name: str | Path, direction: str | None = None) -> Translator:
    """The translator of a run folder or of a file, on the CPU, in evaluation mode.

    direction: "AtoB" or "BtoA"; needed where there are both. Raises UsageError, WeightsError.
    """
    artifact = artifacts.read_run(name, TRANSLATOR)
    generators = artifact.description["generators"]
    if direction is None and len(generators) > 1:
        raise UsageError(f"{name}: translates in both directions; choose with --direction {' or '.join(generators)}")
    direction = direction or next(iter(generators), None)
    if direction not in generators:
        raise UsageError(f"{name}: translates {' and '.join(generators)}, not {direction}")
    described, prefix = generators[direction], f"{direction}."
    own = {k.removeprefix(prefix): v for k, v in artifact.tensors.items() if k.startswith(prefix)}
    with artifact.description_checked():
        made = built(lambda: network(described), own, artifact.file)
        architecture, options, size = described["architecture"], dict(described["options"]), tuple(described["size"])
        source, target = ImageSpec(**described["source"]), ImageSpec(**described["target"])
    made.eval().requires_grad_(False)
    return Translator(made, architecture, source, target, size, options)


def network(described: Mapping[str, Any]) -> Generator:
    """A generator as `Translator.describe` has it, with random weights. Raises schema.Invalid for what is none."""
    GENERATOR(described)
    source, target = (ImageSpec(**described[end]) for end in ("source", "target"))
    return _network(described["architecture"], source, target, **described["options"])


def _network(
    architecture: str, source: ImageSpec, target: ImageSpec, *, keep_luminance: bool = False, **options: Any
) -> Generator:
    if not keep_luminance:
        return ARCHITECTURES[architecture](source.width, target.width, **options)
    if (source, target) != (ImageSpec(1), ImageSpec(3)):
        raise UsageError("--keep-luminance makes color images of gray ones; take --channels-a 1 and --channels-b 3")
    return KeepLuminance(ARCHITECTURES[architecture](1, 2, **options))
