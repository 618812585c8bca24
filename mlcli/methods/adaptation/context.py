"""What every method of adaptation is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mlcli.data.domains import Domain
from mlcli.data.pairs import ImageSpec
from mlcli.errors import UsageError
from mlcli.io import image_io
from mlcli.methods.adaptation.configs import Adaptation
from mlcli.methods.adaptation.encoder import last_linear
from mlcli.methods.adaptation.model_selection import Candidates
from mlcli.methods.configs import CycleGAN
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.generation.tiled_inference import translate
from mlcli.methods.generation.translation import GanMonitor
from mlcli.models import pretrained, registry, translators
from mlcli.models.registry import Model
from mlcli.models.translators import Translator
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import seed_global
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run

# Where a discriminator has won or lost for good, by the stage; CyCADA's pixel stage has options of its own
REMEDY = "fewer --steps or a lower --lr"
REMEDIES = {"translator": "fewer --pixel-steps or a lower --pixel-lr"}


@dataclass
class AdaptationContext:
    """One run of a method with one seed.

    source: labeled.  target: without labels, in an order that does not depend on them.  held_out: of the source,
    labeled; nothing is learned from it.
    stage: the run folder of a stage by name.  fit: trains a stage in its folder, or goes on with it.
    """

    source: Domain
    target: Domain
    classes: tuple[str, ...]
    config: Adaptation
    seed: int
    runtime: Runtime
    processes: Processes
    stage: Callable[[str], Run]
    fit: Callable[[Run, Method, Plan], None]
    held_out: Domain | None = None

    def new_model(self) -> Model:
        """A model to begin from, the same at each call, random or pretrained. UsageError where it cannot serve."""
        seed_global(self.seed, "adaptation/initialization")
        if self.config.pretrained:
            known = pretrained.known(self.config.model, self.config.weights)
            model = pretrained.learner(known, self.classes, self.source.size)
        else:
            model = registry.create(self.config.model, self.classes, self.source.size, self.source.channels)
        if self.source.labels.ndim == 1:
            last_linear(model.network)
        elif self.config.model != registry.SEGMENTER:
            raise UsageError(f"--model {self.config.model}: draws no masks; --task segment takes {registry.SEGMENTER}")
        return model

    def cyclegan(self, generator: str | None, **values) -> CycleGAN:
        """CycleGAN's config for these domains: nothing mirrored or cut, no identity loss, a small discriminator."""
        size = (self.source.size,) * 2
        filters = 2 * values["filters"]
        return CycleGAN(
            self.generator(generator), size=size, load=size, flip=False, identity=0.0, layers=2,
            discriminator_filters=filters, seed=self.seed, **values,
        )  # fmt: skip

    def generator(self, name: str | None) -> str:
        """The generator of this name; of None a U-Net, or resnet-6 where sides are no multiples of 8.

        In minutes of training connections across carry strokes that a ResNet, which leaves a quarter of the places of
        each side, has yet to draw.
        """
        return name or ("unet" if self.source.size % 8 == 0 else "resnet-6")

    def require_networks(self) -> None:
        """Raise UsageError, before any work, where a network of the config is none for images of this size."""
        self.new_model()
        if self.config.translates:
            self.translator(self.generator(self.config.generator), filters=self.config.filters)

    def translator(self, name: str, **options) -> Translator:
        """A new generator of images of one domain from those of the other."""
        kind = ImageSpec(self.source.channels)
        return translators.create(name, kind, kind, (self.source.size,) * 2, **options)

    def plan(self, items: int, steps: int, batch_size: int, option: str = "--batch-size") -> Plan:
        """`steps` steps over so many items, logged often enough for the guards, with figures at the candidates."""
        batch = min(batch_size, items)
        self.processes.check_batch(batch, option)
        epochs = -(-steps // max(1, items // batch))
        moments = max(1, steps // self.config.candidates)
        return Plan(
            items, batch, epochs, self.seed, max_steps=steps, evaluate_every=moments, sample_every=max(1, steps // 4),
            log_every=max(1, min(20, steps // (2 * GanMonitor.PATIENCE))),
        )  # fmt: skip

    def candidates(self, run: Run, network: nn.Module) -> Candidates:
        return Candidates(run.folder / "candidates", network, self.config.select, self.processes)

    def choose(self, run: Run, method: Method) -> None:
        """Give a method that is done learning the weights of its chosen candidate, and its run that model."""
        method.candidates.restore(method.candidates.chosen)
        if self.processes.main:
            method.save_model(run)
        self.processes.wait()


@dataclass
class AdaptationResult:
    """What a method came to.

    source_only: the model before.  model: the model after, with the weights of the chosen candidate.
    stages: the runs of its stages.  alone: models of a stage by itself, by name.
    source_encoder: the model that keeps the source for itself, where `model` is of the target alone.
    to_target: source images as the method translates them to the target, uint8 -> uint8 (N, C, S, S).
    to_source: target images as it translates them to the source.
    translator: what `mlcli translate` applies.
    facts: what else the result says, by name.
    """

    source_only: Model
    model: Model
    candidates: Candidates
    stages: list[Run]
    alone: dict[str, Model] = field(default_factory=dict)
    source_encoder: Model | None = None
    to_target: Callable[[Tensor], Tensor] | None = None
    to_source: Callable[[Tensor], Tensor] | None = None
    translator: Translator | None = None
    facts: dict = field(default_factory=dict)


def frozen(model: Model) -> Model:
    """The model done with learning."""
    model.network.eval().requires_grad_(False)
    return model


def translation_of(translator: Translator, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """The generator as a function of stored images: uint8 (N, C, S, S) -> the same."""

    def apply(images: Tensor) -> Tensor:
        return image_io.to_bytes(translate(translator, images, runtime, batch_size=at_once(images, 100)))

    return apply


def at_once(images: Tensor, most: int = 500) -> int:
    """How many of the images (N, C, S, S) go through a network together: as many pixels as `most` of 64 x 64 have."""
    return max(1, min(most, most * 64**2 // images.shape[-1] ** 2))


def answers(model: Model, images: Tensor, runtime: Runtime, batch_size: int = 500) -> Tensor:
    """(N, C, S, S) -> probabilities (N, K), or (N, K, S, S) of a segmenter, float32 on the CPU, in evaluation mode."""
    training = model.network.training
    model.network.eval()
    parts = [predict(model, part, runtime) for part in images.split(at_once(images, batch_size))]
    model.network.train(training)
    return torch.cat(parts)
