"""Transfer learning: the layers of task 1 are kept, the last one is learned anew for task 2.

The last layer is linear in the features before it, which stay what they are: each view of an image goes through the
network once, and the layer is the solution of a convex problem (methods.learning.linear_head). Deeper layers may follow
from there by gradient descent, the lower the more slowly, since what they respond to is the more general (Yosinski et
al. 2014); the rate falls by `decay` from stage to stage (Howard & Ruder 2018, discriminative fine-tuning, with 1/2.6).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import UsageError
from mlcli.methods.evaluation.classification import Evaluation, evaluate, predictions
from mlcli.methods.learning import configs
from mlcli.methods.learning import linear_head as logistic
from mlcli.methods.learning.linear_head import LinearClassifier
from mlcli.methods.learning.supervised import Supervised, augment
from mlcli.models import registry, stages
from mlcli.models.features import HeadInputs
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training import blocks
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run

BATCH = 64  # images at a time


class Features:
    """What the last layer of a model is given."""

    def __init__(self, model: Model, runtime: Runtime):
        """Raises UsageError for a model whose last layer is not linear in one vector an image."""
        self.inputs = HeadInputs(model)
        self.layer, self.head = self.inputs.hidden, self.inputs.head
        self.model, self.runtime = model, runtime

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, S, S) uint8 -> (N, D) float32 on the CPU. Raises WeightsError where one is no number."""
        with self.runtime.autocast():
            vectors = self.inputs(images.to(self.runtime.device))
        return self.model.finite(vectors.float().cpu(), self.runtime)

    def of(
        self,
        images: ImageDataset,
        config: configs.Finetune,
        folder: Path,
        name: str,
        processes: Processes,
        *,
        copies: int = 0,
        report: Callable[[int], None] = lambda done: None,
    ) -> Tensor:
        """(N, 1 + copies, D): of each image the features as it is, and of its copies; kept in files of the folder."""
        drawn = draw_copies(len(images), images.size, config, copies)

        def compute(numbers: Tensor) -> Tensor:
            parts = []
            for some in numbers.split(BATCH):
                batch = images.batch(some)
                views = [batch] + [augment(batch, flips[some], shifts[:, some]) for flips, shifts in drawn]
                parts.append(torch.stack([self(view) for view in views], 1))
            return torch.cat(parts)

        return blocks.computed(compute, len(images), folder, name, processes, report=report)


def most_copies(config: configs.Finetune) -> int:
    """How many copies of the config can differ from the image and from each other: without a shift, one mirror."""
    return config.copies if config.shift else min(config.copies, int(config.flip))


def draw_copies(count: int, size: int, config: configs.Finetune, copies: int) -> list[tuple[Tensor, Tensor]]:
    """For each copy what `augment` wants: (count,) bool, mirrored or not, and (4, count) integers, how far it is moved.

    The first copy is the mirror image, where the config mirrors; of those that follow every second one is mirrored.
    """
    random = rng(config.seed, "finetuning/views")
    reach, drawn = min(config.shift, size - 1), []
    for number in range(copies):
        shifts = torch.zeros(4, count, dtype=torch.int64)
        if number or not config.flip:
            shifts[:2] = torch.randint(-reach, reach + 1, (2, count), generator=random)
        drawn.append((torch.full((count,), config.flip and number % 2 == 0), shifts))
    return drawn


def with_last_layer(model: Model, head: Layer, solved: LinearClassifier, classes: tuple[str, ...]) -> Model:
    """The model with the solved layer as its last one, for these classes."""
    result = registry.with_classes(model, classes)
    layer = result.network.get_submodule(head.address)
    # The network that the layer is of may scale what it gives; it may stand behind a generator
    owner = result.network.get_submodule(head.address.rpartition(".")[0])
    scale = getattr(owner, "LOGIT_SCALE", 1.0)
    with torch.no_grad():
        layer.weight.copy_(solved.weight / scale)
        layer.bias.copy_(solved.bias / scale)
    result.network.eval().requires_grad_(False)
    return result


def frozen(model: Model, freeze: str) -> set[str]:
    """The names of the parameters that gradient descent leaves alone: 'all', 'none', or those up to a layer.

    Raises UsageError for an unknown layer, and for one that leaves nothing to be tuned.
    """
    every = {name for name, _ in model.network.named_parameters()}
    if freeze in ("all", "none"):
        return every if freeze == "all" else set()
    names = stages.up_to(model, freeze)
    if names == every:
        raise UsageError(f"--freeze {freeze}: leaves nothing to be tuned; --freeze all solves the last layer")
    return names


class FineTuning(Supervised):
    """Gradient descent from the solved last layer on, in what `config.freeze` leaves free."""

    def __init__(self, model: Model, images: ImageDataset, config: configs.Finetune, *others):
        left_alone = frozen(model, config.freeze)
        self.stage = stages.stages(model)
        for name, parameter in model.network.named_parameters():
            parameter.requires_grad_(name not in left_alone)
        super().__init__(model, images, config, *others)

    def updating(self) -> list[torch.optim.Optimizer]:
        """AdamW (Loshchilov & Hutter 2019), with lr decay^(K - k) for the weights of stage k of 0 to K.

        Biases and the scales of norms do not decay.
        """
        last, groups = max(self.stage.values()), {}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                matrix = parameter.ndim > 1
                group = groups.setdefault(
                    (self.stage[name], matrix),
                    {
                        "params": [],
                        "lr": self.config.lr * self.config.decay ** (last - self.stage[name]),
                        "weight_decay": self.config.weight_decay if matrix else 0.0,
                    },
                )
                group["params"].append(parameter)
        return [torch.optim.AdamW(list(groups.values()), betas=(0.9, 0.999))]

    def train_mode(self) -> None:
        """Batch norms keep the statistics of task 1, which are better known than those of a few images."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                module.eval()


@dataclass
class Learned:
    """What came of it. evaluations: by what they are of, the result last; nothing is said where nothing can be tested.

    tested: the images of the last one, and probabilities (N, classes) of them, NaN where nothing is said; None in
    processes that estimate nothing.
    """

    l2: float
    evaluations: dict[str, Evaluation]
    tested: ImageDataset
    probabilities: Tensor | None


@dataclass
class Transfer:
    """Task 2 taught to a model of task 1: the last layer, then what the config leaves free, and how often it is right.

    validation: images to test on; without, folds of the training images are. fit: trains a method in a run folder,
    or goes on with it.
    """

    features: Features
    classes: tuple[str, ...]
    training: ImageDataset
    validation: ImageDataset | None
    config: configs.Finetune
    processes: Processes
    fit: Callable[[Run, Method, Plan], None]

    def learn(self, x: Tensor, tested: Tensor | None, folds: int, run: Run, baseline: Run | None) -> Learned:
        """Write the model into `run`, and into `baseline`, where given, that of the same network from scratch.

        x: (N, V, D) features of the training images and their copies.  tested: (M, D) of the validation images.
        """
        labels, evaluations = self.training.labels, {}
        problem = logistic.Problem(x, labels, len(self.classes), self.config.balanced)
        fold = logistic.folds(labels, folds, self.config.seed)
        if len(labels) > configs.SCARCE:
            fold[fold > 0] = -1  # one part says enough of l2
        solved = logistic.fit(problem, fold)
        model = with_last_layer(self.features.model, self.features.head, solved, self.classes)
        if self.validation:
            probabilities = solved.probabilities(tested)
        else:
            probabilities = logistic.held_out(problem, fold) if self.processes.main else None
        if self.config.freeze != "all":
            self._train(FineTuning, model, self.config, run)
            if self.validation:
                evaluations["last layer alone"] = self.evaluation(probabilities)
                probabilities = self.predictions(model)
        elif self.processes.main:
            run.save_model(model.network.state_dict(), model.describe() | {"config": asdict(self.config)})
        if baseline:
            evaluations["baseline"] = self.from_scratch(model, baseline)
        if self.processes.main:
            deep = "" if self.config.freeze == "all" else ", last layer alone"
            evaluation = self.evaluation(probabilities)
            if evaluation.count:  # with one image of each class there is nothing to test
                evaluations["validation" if self.validation else f"folds{deep}"] = evaluation
        return Learned(solved.l2, evaluations, self.validation or self.training, probabilities)

    def from_scratch(self, model: Model, run: Run) -> Evaluation:
        """The same network from scratch on the same images, by the config of `mlcli train`."""
        seed_global(self.config.seed, "finetuning/from-scratch")
        scratch = registry.untrained(model, model.classes)
        same = {name: getattr(self.config, name) for name in ("seed", "flip", "shift", "balanced")}
        images, batch_norm = len(self.training), model.has_batch_norm
        config = configs.supervised(same, images, model.architecture, batch_norm, configs.Supervised)
        self._train(Supervised, scratch, config, run)
        return self.evaluation(self.predictions(scratch))

    def _train(self, method: type[Supervised], model: Model, config: configs.Supervised, run: Run) -> None:
        plan = Plan(len(self.training), config.batch_size, config.epochs, config.seed)
        if self.validation:  # of many images the figures would take longer than the training
            plan.evaluate_every = plan.steps_per_epoch * -(-len(self.validation) // len(self.training))
        self.processes.check_batch(plan.batch_size)
        runtime = self.features.runtime
        trained = method(model, self.training, config, plan.steps, runtime, self.processes, self.figures)
        self.fit(run, trained, plan)

    def figures(self, model: Model) -> dict[str, float]:
        """What is logged of a network while it learns."""
        if not self.validation:
            return {}
        evaluation = self.evaluation(self.predictions(model))
        return {
            "val_accuracy": evaluation.correct / evaluation.count,
            "val_balanced_accuracy": evaluation.balanced_accuracy,
        }

    def predictions(self, model: Model) -> Tensor:
        return predictions(model, self.validation, self.features.runtime)

    def evaluation(self, probabilities: Tensor) -> Evaluation:
        """Of the images that are tested, those left out that were never held out."""
        answers = zip((self.validation or self.training).labels.tolist(), probabilities, strict=True)
        return evaluate(self.classes, ((label, row) for label, row in answers if row.isfinite().all()))
