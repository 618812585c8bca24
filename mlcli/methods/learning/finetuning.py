"""Transfer learning: the layers of task 1 are kept, and the last layer is learned for task 2.

The last layer is linear in its features, which do not change. So each view of an image passes the network once, and the
layer is the solution of a convex problem (`linear_head`). From there, gradient descent may tune deeper layers. Lower
layers respond to more general features (Yosinski et al. 2014) and are tuned more slowly: the learning rate falls by the
factor `decay` from stage to stage (Howard & Ruder 2018, discriminative fine-tuning, with 1/2.6).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import UsageError
from mlcli.methods.evaluation.classification import Evaluation, evaluate, predictions
from mlcli.methods.learning import configs
from mlcli.methods.learning import linear_head as logistic
from mlcli.methods.learning.linear_head import LinearClassifier
from mlcli.methods.learning.supervised import Supervised, augment
from mlcli.models import artifacts, catalog, last_layer
from mlcli.models.model import Model
from mlcli.models.structure import stages
from mlcli.models.structure.features import HeadInputs
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training import blocks
from mlcli.training.optimizers import AdamW
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run

BATCH = 64  # images at a time


class Features:
    """The input features of a model's last layer."""

    def __init__(self, model: Model, runtime: Runtime):
        """Raises UsageError for a model whose last layer is not linear in one vector for each image."""
        self.inputs = HeadInputs(model)
        self.layer, self.head = self.inputs.hidden, self.inputs.head
        self.model, self.runtime = model, runtime

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (N, D) float32 on the CPU of images (N, C, S, S) uint8. Raises WeightsError if one is not finite."""
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
        """Features (N, 1 + copies, D) of each image and its augmented copies, cached in files of the folder."""
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
    """Number of augmented copies that can differ from the image and from each other; without shifts, a single flip."""
    return config.copies if config.shift else min(config.copies, int(config.flip))


def draw_copies(count: int, size: int, config: configs.Finetune, copies: int) -> list[tuple[Tensor, Tensor]]:
    """Draw the augmentation of each copy, as `augment` takes it: flips (count,) bool and shifts (4, count) integers.

    If the config flips, the first copy is the flipped image, and every second of the others is flipped too.
    """
    random = rng(config.seed, "finetuning/views")
    limit, drawn = min(config.shift, size - 1), []
    for number in range(copies):
        shifts = torch.zeros(4, count, dtype=torch.int64)
        if number or not config.flip:
            shifts[:2] = torch.randint(-limit, limit + 1, (2, count), generator=random)
        drawn.append((torch.full((count,), config.flip and number % 2 == 0), shifts))
    return drawn


def with_last_layer(model: Model, head: Layer, solved: LinearClassifier, classes: tuple[str, ...]) -> Model:
    """The model for these classes, with the solved layer as its last layer."""
    result = last_layer.with_classes(model, classes)
    layer = result.network.get_submodule(head.address)
    assert isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None
    # The network of the layer may scale the logits; it may be a part of a larger network
    owner = result.network.get_submodule(head.address.rpartition(".")[0])
    scale = getattr(owner, "LOGIT_SCALE", 1.0)
    with torch.no_grad():
        layer.weight.copy_(solved.weight / scale)
        layer.bias.copy_(solved.bias / scale)
    result.network.eval().requires_grad_(False)
    return result


def frozen(model: Model, freeze: str) -> set[str]:
    """Names of the parameters that are frozen. freeze: 'all', 'none', or the last frozen layer.

    Raises UsageError for an unknown layer, and for one that leaves no parameter to tune.
    """
    every = {name for name, _ in model.network.named_parameters()}
    if freeze in ("all", "none"):
        return every if freeze == "all" else set()
    names = stages.up_to(model, freeze)
    if names == every:
        raise UsageError(f"--freeze {freeze}: leaves no parameter to tune; --freeze all solves the last layer")
    return names


class FineTuning(Supervised):
    """Gradient descent from the solved last layer, in the parameters that `config.freeze` does not freeze."""

    config: configs.Finetune

    def __init__(self, model: Model, images: ImageDataset, config: configs.Finetune, *others: Any):
        """others: the other arguments of `Supervised`."""
        fixed = frozen(model, config.freeze)
        self.stage = stages.stages(model)
        for name, parameter in model.network.named_parameters():
            parameter.requires_grad_(name not in fixed)
        super().__init__(model, images, config, *others)

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW (Loshchilov & Hutter 2019) with learning rate lr decay^(K - k) for the parameters of stage k of 0 to K.

        Biases and the scales of norms have no weight decay.
        """
        last = max(self.stage.values())
        groups: dict[tuple[int, bool], dict[str, Any]] = {}
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
        return [AdamW(list(groups.values()), betas=(0.9, 0.999))]

    def train_mode(self) -> None:
        """Training mode; batch norms keep the statistics of task 1, since those of a few images are less reliable."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                module.eval()


@dataclass
class Learned:
    """Result of `Transfer.learn`.

    l2: regularization of the last layer. evaluations: by name, that of the final model last; empty if no image can be
    tested. tested: the images of the last evaluation. probabilities: predictions for them, (N, classes), NaN for images
    that were never held out; None in processes that compute no estimate.
    """

    l2: float
    evaluations: dict[str, Evaluation]
    tested: ImageDataset
    probabilities: Tensor | None


@dataclass
class Transfer:
    """Transfer of a model to task 2: solves the last layer, tunes the layers that are not frozen, and evaluates both.

    validation: images to test on; without them, folds of the training images are held out. fit: trains a method in a
    run folder, or resumes it.
    """

    features: Features
    classes: tuple[str, ...]
    training: ImageDataset
    validation: ImageDataset | None
    config: configs.Finetune
    processes: Processes
    fit: Callable[[Run, Supervised, Plan], None]

    def learn(self, x: Tensor, tested: Tensor | None, folds: int, run: Run, baseline: Run | None) -> Learned:
        """Write the model into `run`; and into `baseline`, if given, the same network trained from scratch.

        x: (N, V, D), features of the training images and their copies. tested: (M, D), features of the validation
        images. folds: number of folds.
        """
        labels = self.training.class_labels
        evaluations: dict[str, Evaluation] = {}
        problem = logistic.Problem(x, labels, len(self.classes), self.config.balanced)
        fold = logistic.folds(labels, folds, self.config.seed)
        if len(labels) > configs.SCARCE:
            fold[fold > 0] = -1  # of many images, one fold is enough to choose l2
        solved = logistic.fit(problem, fold)
        model = with_last_layer(self.features.model, self.features.head, solved, self.classes)
        probabilities: Tensor | None = None
        if tested is not None:
            probabilities = solved.probabilities(tested)
        elif self.processes.main:
            probabilities = logistic.held_out(problem, fold)
        if self.config.freeze != "all":
            self._train(FineTuning, model, self.config, run)
            if self.validation and probabilities is not None:
                evaluations["last layer alone"] = self.evaluation(probabilities)
                probabilities = self.predictions(model, self.validation)
        elif self.processes.main:
            artifacts.save(
                run.model_file, model.network.state_dict(), model.describe() | {"config": asdict(self.config)}
            )
        if baseline:
            evaluations["baseline"] = self.from_scratch(model, baseline)
        if self.processes.main and probabilities is not None:
            suffix = "" if self.config.freeze == "all" else ", last layer alone"
            evaluation = self.evaluation(probabilities)
            if evaluation.count:  # with a single image of each class, none can be tested
                evaluations["validation" if self.validation else f"folds{suffix}"] = evaluation
        return Learned(solved.l2, evaluations, self.validation or self.training, probabilities)

    def from_scratch(self, model: Model, run: Run) -> Evaluation:
        """Train the same network from scratch on the same images, with the defaults of `mlcli train`."""
        assert self.validation is not None  # without it there is no baseline
        seed_global(self.config.seed, "finetuning/from-scratch")
        scratch = last_layer.untrained(model, model.classes)
        same = {name: getattr(self.config, name) for name in ("seed", "flip", "shift", "balanced")}
        defaults = catalog.training_defaults(model.architecture)
        config = configs.supervised(same, len(self.training), defaults, model.has_batch_norm, configs.Supervised)
        self._train(Supervised, scratch, config, run)
        return self.evaluation(self.predictions(scratch, self.validation))

    def _train(self, method: type[Supervised], model: Model, config: configs.Supervised, run: Run) -> None:
        plan = Plan(len(self.training), config.batch_size, config.epochs, config.seed)
        if self.validation:  # evaluating many images more often would take longer than the training
            plan.evaluate_every = plan.steps_per_epoch * -(-len(self.validation) // len(self.training))
        self.processes.check_batch(plan.batch_size)
        runtime = self.features.runtime
        trained = method(model, self.training, config, plan.steps, runtime, self.processes, self.figures)
        self.fit(run, trained, plan)

    def figures(self, model: Model) -> dict[str, float]:
        """Figures of a model that are logged during training."""
        if not self.validation:
            return {}
        evaluation = self.evaluation(self.predictions(model, self.validation))
        return {
            "val_accuracy": evaluation.correct / evaluation.count,
            "val_balanced_accuracy": evaluation.balanced_accuracy,
        }

    def predictions(self, model: Model, images: ImageDataset) -> Tensor:
        """Probabilities (N, classes) of the images."""
        return predictions(model, images, self.features.runtime)

    def evaluation(self, probabilities: Tensor) -> Evaluation:
        """Evaluation of probabilities (N, classes) of the tested images, without those that were never held out."""
        rows = zip((self.validation or self.training).class_labels.tolist(), probabilities, strict=True)
        return evaluate(self.classes, ((label, row) for label, row in rows if row.isfinite().all()))
