"""What every method of adaptation is given, and what it returns."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.data.domains import Domain
from mlcli.data.pairs import ImageSpec
from mlcli.errors import UsageError
from mlcli.imaging import image_io
from mlcli.methods.adaptation.encoder import batch_norms, last_linear, penultimate
from mlcli.methods.adaptation.model_selection import CRITERIA, Candidates, Criterion
from mlcli.methods.adaptation.registry import Adaptation, CycleGanOptions, Optimized
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.evaluation.reverse_validation import ReverseValidation
from mlcli.methods.generation.configs import CycleGAN
from mlcli.methods.generation.tiled_inference import translate
from mlcli.methods.generation.translation import GanMonitor
from mlcli.models import artifacts, last_layer, pretrained, registry, translators
from mlcli.models.model import Model
from mlcli.models.sources.builtin import SEGMENTER
from mlcli.models.translators import Translator
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Network, Processes
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run

# Advice where a discriminator has won or lost for good, by stage; CyCADA's pixel stage has options of its own.
REMEDY = "fewer --steps or a lower --lr"
REMEDIES = {"translator": "fewer --pixel-steps or a lower --pixel-lr"}
CRITERION_IMAGES = 2000  # of the target, that a criterion sees
REVERSE_IMAGES = 1000  # of each domain, for reverse validation
FEATURE_BATCH = 100

Config = TypeVar("Config", bound=Adaptation)


@dataclass
class AdaptationContext(Generic[Config]):
    """One run of a method with one seed.

    source: labeled images; none where a method does without them.
    target: images without labels, in an order that does not depend on labels.
    held_out: labeled source images that take no part in training.
    source_model: a model of these classes, where none is to be trained on the source.
    stage: returns the run folder of a stage by its name.  fit: trains a stage in its run folder, or resumes it.
    """

    source: Domain
    target: Domain
    classes: tuple[str, ...]
    config: Config
    seed: int
    runtime: Runtime
    processes: Processes
    stage: Callable[[str], Run]
    fit: Callable[[Run, Method, Plan], None]
    held_out: Domain | None = None
    source_model: Model | None = None

    @property
    def segments(self) -> bool:
        """Whether the labels are masks, not classes of whole images."""
        return self.source.labels is not None and self.source.labels.ndim > 1

    def stages(self, *names: str) -> list[Run]:
        """The run folders of the stages that a method has trained: that of the source model, if any, and the others."""
        return [self.stage(name) for name in ([] if self.source_model else ["source"]) + list(names)]

    def new_model(self) -> Model:
        """A model to start from, the same at each call: random, or pretrained. UsageError where it does not fit."""
        seed_global(self.seed, "adaptation/initialization")
        size, channels = self.target.size, self.target.channels
        if self.source_model:
            model = pretrained.learner(self.source_model, self.classes, size)
        elif self.config.pretrained:
            model = pretrained.learner(pretrained.known(self.config.model, self.config.weights), self.classes, size)
        else:
            model = registry.create(self.config.model, self.classes, size, channels)
        if not self.segments:
            last_linear(model.network)
        elif self.config.model != SEGMENTER:
            raise UsageError(f"--model {self.config.model}: draws no masks; --task segment takes {SEGMENTER}")
        return model

    def cyclegan(self, options: CycleGanOptions, *, lr: float, batch_size: int) -> CycleGAN:
        """CycleGAN's config for these domains: no flips or crops, no identity loss, a small discriminator."""
        size = (self.source.size,) * 2
        return CycleGAN(
            generator=self.generator(options.generator),
            filters=options.filters,
            cycle=options.cycle,
            pool=options.pool,
            lr=lr,
            batch_size=batch_size,
            size=size,
            load_size=size,
            flip=False,
            identity=0.0,
            layers=2,
            discriminator_filters=2 * options.filters,
            seed=self.seed,
        )

    def generator(self, name: str | None) -> str:
        """The generator of this name; for None unet, or resnet-6 where the side is no multiple of 8.

        In minutes of training, skip connections transmit strokes that a ResNet, which reduces each side to a quarter,
        would first have to learn to draw.
        """
        return name or ("unet" if self.source.size % 8 == 0 else "resnet-6")

    def require_networks(self) -> None:
        """Raise UsageError, before any work, where a network of the config does not fit images of this size."""
        model = self.new_model()
        if self.config.needs_batch_norm and not batch_norms(model.network):
            raise UsageError(
                f"--model {self.config.model}: has no batch norm, whose statistics could be adapted; take lenet-bn, "
                "digits or cifarnet, or efficientnet_lite0 with --pretrained"
            )
        if isinstance(self.config, CycleGanOptions) and self.config.translates:
            self.translator(self.generator(self.config.generator), filters=self.config.filters)

    def translator(self, name: str, **options: Any) -> Translator:
        """A new generator that translates images of one domain to the other. options: those of its architecture."""
        spec = ImageSpec(self.source.channels)
        return translators.create(name, spec, spec, (self.source.size,) * 2, **options)

    def plan(self, items: int, steps: int, batch_size: int, option: str = "--batch-size") -> Plan:
        """`steps` steps over so many items, evaluated at each checkpoint, logged often enough for GanMonitor.

        option: what sets the batch size, for the message where several processes cannot share it equally.
        """
        batch = min(batch_size, items)
        checkpoints = self.config.candidates if isinstance(self.config, Optimized) else 1
        self.processes.check_batch(batch, option)
        epochs = -(-steps // max(1, items // batch))
        return Plan(
            items, batch, epochs, self.seed, max_steps=steps, evaluate_every=max(1, steps // checkpoints),
            sample_every=max(1, steps // 4), log_every=max(1, min(20, steps // (2 * GanMonitor.PATIENCE))),
        )  # fmt: skip

    @cached_property
    def criteria(self) -> dict[str, Criterion]:
        """The criteria of predictions for the target; `reverse`, which takes a second a model, where it is selected."""
        if getattr(self.config, "select", "") != "reverse":
            return CRITERIA
        assert self.source.labels is not None
        seed_global(self.seed, "adaptation/reverse-validation")
        untrained = last_layer.untrained(self.source_model, self.classes) if self.source_model else self.new_model()
        frozen(untrained).network.to(self.runtime.device)
        domains = self.target.images[:REVERSE_IMAGES], self.source.images[:REVERSE_IMAGES]
        target, source = (features(untrained, images, self.runtime) for images in domains)
        return CRITERIA | {"reverse": ReverseValidation(target, source, self.source.labels[:REVERSE_IMAGES])}

    def prepared(self, network: Network) -> Network:
        """The network on the device, in its memory format, for all processes."""
        network = network.to(self.runtime.device).to(memory_format=self.runtime.memory_format)
        return self.processes.prepare(network)

    def copy(self, f: Model) -> Model:
        """A copy of a model, to be trained."""
        return replace(f, network=self.prepared(copy.deepcopy(f.network)))

    def of_source(self, count: int, purpose: str, step: int) -> Tensor:
        """Indices (count,) of source images drawn at random, this process's shard of those of all."""
        random = rng(self.seed, purpose, step)
        drawn = torch.randint(len(self.source), (count * self.processes.count,), generator=random)
        return self.processes.shard(drawn)

    def candidates(self, run: Run, network: nn.Module) -> Candidates:
        """The checkpoints of a network, kept in the run folder of a stage. The config must be an `Optimized`."""
        assert isinstance(self.config, Optimized)
        return Candidates(run.folder / "candidates", network, self.config.select, self.processes, self.criteria)

    def choose(self, run: Run, method: Method, candidates: Candidates) -> None:
        """Give a trained method the weights of its chosen checkpoint, and write that model to its run folder."""
        candidates.restore(candidates.chosen)
        if self.processes.main:
            method.save_model(run)
        self.processes.wait()


@dataclass
class AdaptationResult:
    """What a method returns for one seed.

    source_only: the model before the adaptation.  model: the model after it, of the chosen checkpoint.
    stages: the run folders of the stages that were trained.
    candidates: the checkpoints that `model` was chosen from; None for a method that trains nothing after the source
    model, so that there is nothing to choose.
    alone: models of single stages, by name, for comparison.
    source_encoder: the model that encodes the source, where `model` encodes the target alone.
    to_target: translation of source images to the target, uint8 -> uint8 (N, C, S, S).
    to_source: translation of target images to the source.
    translator: the generator for `mlcli translate`.
    facts: further entries of the result, by name.
    """

    source_only: Model
    model: Model
    stages: list[Run]
    candidates: Candidates | None = None
    alone: dict[str, Model] = field(default_factory=dict)
    source_encoder: Model | None = None
    to_target: Callable[[Tensor], Tensor] | None = None
    to_source: Callable[[Tensor], Tensor] | None = None
    translator: Translator | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class TargetTraining:
    """What trainings of a classifier for the target have in common; training.loop drives them.

    model: the classifier that is the result.  run: the run folder of the stage, which keeps its checkpoints.
    """

    def __init__(self, context: AdaptationContext[Any], model: Model, run: Run) -> None:
        self.context, self.config, self.model = context, context.config, model
        self.runtime, self.processes = context.runtime, context.processes
        self.candidates = context.candidates(run, model.network)
        self.steps_done = 0

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return self.context.target.names(indices)

    def evaluate(self) -> dict[str, float]:
        target = self.context.target.images[:CRITERION_IMAGES]
        return self.candidates.add(self.steps_done, probabilities(self.model, target, self.runtime))

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    def samples(self) -> dict[str, Tensor | Image]:
        return {}

    def save_model(self, run: Run) -> None:
        artifacts.save(run.model_file, self.model.network.state_dict(), self.model.describe())


def frozen(model: Model) -> Model:
    """The model in evaluation mode, without gradients."""
    model.network.eval().requires_grad_(False)
    return model


def translation_of(translator: Translator, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """The generator as a function of stored images: uint8 (N, C, S, S) -> uint8 (N, C, S, S)."""

    def apply(images: Tensor) -> Tensor:
        return image_io.to_bytes(translate(translator, images, runtime, batch_size=inference_batch(images, 100)))

    return apply


def inference_batch(images: Tensor, most: int = 500) -> int:
    """How many of the images (N, C, S, S) pass a network together: as many pixels as `most` images of 64 x 64 have."""
    return max(1, min(most, most * 64**2 // images.shape[-1] ** 2))


def probabilities(model: Model, images: Tensor, runtime: Runtime, batch_size: int = 500) -> Tensor:
    """(N, C, S, S) -> (N, K), or (N, K, S, S) of a segmenter: float32 on the CPU, computed in evaluation mode."""
    training = model.network.training
    model.network.eval()
    parts = [predict(model, part, runtime) for part in images.split(inference_batch(images, batch_size))]
    model.network.train(training)
    return torch.cat(parts)


@torch.no_grad()
def features(model: Model, images: Tensor, runtime: Runtime) -> Tensor:
    """The input of the last layer, (N, F) float32 on the CPU; of a segmenter the mean over all positions."""
    means = []
    with penultimate(model.network) as caught:
        for part in images.split(inference_batch(images, FEATURE_BATCH)):
            model(part.to(runtime.device))
            values = caught.pop()
            means.append((values.flatten(2).mean(2) if values.ndim == 4 else values).float().cpu())
    return torch.cat(means)
