"""The measurements of one seed of a method, and the result over all seeds: the table of `mlcli adapt`.

The labels of the test set are read here, after everything is trained and chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor

from mlcli.data.domains import Domain
from mlcli.methods.adaptation.context import (
    REMEDIES,
    REMEDY,
    AdaptationContext,
    AdaptationResult,
    features,
    probabilities,
)
from mlcli.methods.adaptation.model_selection import Candidates, rows
from mlcli.methods.adaptation.registry import METHODS
from mlcli.methods.evaluation import label_shift, significance
from mlcli.methods.generation import translation
from mlcli.models.model import Model
from mlcli.reporting import sample_sheets

POINTS = 400  # images of each domain in the projection
SAMPLES = 10  # translated images in a sample
MEASURED = 2000  # images of a domain that label flips and guards are measured on
ROWS = ("source_only", "adapted", "last", "best_possible", "target_supervised")

Context = AdaptationContext[Any]


@dataclass
class SeedResult:
    """The measurements of one seed.

    predictions: for each row of the table the predicted classes (N,), or masks (N, S, S), of the test images.
    selection: how the checkpoint was chosen; None where the method has no checkpoints.
    held_out: the scores of the source model on held-out source images.
    frequencies: (K,) of the classes of (source, target), the latter estimated; None without a source, and for masks.
    comparison: of source only and the adapted model, without labels: the criterion and its value for either, and the
    `doubt`, why the adapted model seems to be worse; empty where it does not.
    features: of (source, target) images, before the adaptation and after it.
    """

    seed: int
    predictions: dict[str, Tensor] = field(default_factory=dict)
    selection: dict[str, Any] | None = None
    label_flips: dict[str, Any] | None = None
    held_out: Tensor | None = None
    frequencies: tuple[Tensor, Tensor] | None = None
    comparison: dict[str, Any] = field(default_factory=dict)
    guards: list[str] = field(default_factory=list)
    images: dict[str, Image] = field(default_factory=dict)
    features: Sequence[tuple[Tensor, Tensor]] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def kept(self, keep: str) -> str:
        """The model that is handed out, "adapted" or "source_only". keep: "best" or "adapted"."""
        return "source_only" if keep == "best" and self.comparison.get("doubt") else "adapted"

    def doubt(self, keep: str) -> str:
        """A warning if the adapted model seems worse than source only; otherwise an empty string."""
        if not (doubt := self.comparison.get("doubt")):
            return ""
        if keep == "best":
            done = "the source model is handed out in its place; --keep adapted hands out the adapted model"
        else:
            done = "it is handed out all the same; --keep best hands out the source model"
        return f"the adapted model seems worse than source only ({doubt}); {done}"


def measure(context: Context, adapted: AdaptationResult, test: Domain | None, supervised: Model | None) -> SeedResult:
    """Measure one seed. supervised: a model trained on the labels of the target, where these were given."""
    result = SeedResult(context.seed, facts=adapted.facts)
    models = {"source_only": adapted.source_only, "adapted": adapted.model, **adapted.alone}
    if supervised:
        models["target_supervised"] = supervised
    if test:
        result.predictions = {name: _predictions(context, model, test.images) for name, model in models.items()}
    if candidates := adapted.candidates:
        if test:
            result.predictions |= _checkpoint_predictions(context, adapted.model, candidates, test)
        result.selection = {
            "criterion": candidates.select,
            "chosen": candidates.chosen,
            "candidates": [{"step": step, "score": score} for step, score in sorted(candidates.scores.items())],
        }
    result.label_flips = _label_flips(context, adapted, supervised)
    result.held_out = _held_out(context, adapted)
    before, after = (_on_target(context, model) for model in (adapted.source_only, adapted.model))
    result.frequencies = _class_frequencies(context, before.p)
    known = context.source.labels if len(context.source) else torch.arange(len(context.classes))
    assert known is not None
    collapse = significance.collapse(before.predicted, after.predicted, known)
    result.comparison = _comparison(context, before.p, after.p, collapse)
    result.guards = _log_warnings(adapted) + ([collapse] if collapse else [])
    result.features = _features_of_domains(context, adapted)
    result.images = _translations(context, adapted)
    return result


def _predictions(context: Context, model: Model, images: Tensor) -> Tensor:
    return probabilities(model, images, context.runtime).argmax(1)


def _checkpoint_predictions(context: Context, model: Model, candidates: Candidates, test: Domain) -> dict[str, Tensor]:
    """Predictions of the last checkpoint, and of the one that is best on the test labels, which nobody may choose."""
    assert test.labels is not None
    predictions = {}
    for step in candidates.scores:
        candidates.restore(step)
        predictions[step] = _predictions(context, model, test.images)
    candidates.restore(candidates.chosen)
    labels, count = test.labels, len(model.classes)
    best = max(predictions, key=lambda step: significance.scores(predictions[step], labels, count).mean().item())
    return {"last": predictions[candidates.last], "best_possible": predictions[best]}


def _label_flips(context: Context, adapted: AdaptationResult, supervised: Model | None) -> dict[str, Any] | None:
    """How often the translation that the method relies on changes the class of an image; None without translation.

    To the target: labels of the source against the predictions for their translations, by the model trained on the
    target's labels. To the source: predictions of that model for target images against those of the source model for
    their translations. Without such a model the source model stands in for it, before and after. Then its own errors
    on the target count as flips, and a translation that was trained to agree with it, as CyCADA's, looks better than
    it is.
    """
    translate, direction = adapted.to_source or adapted.to_target, "to source" if adapted.to_source else "to target"
    if translate is None or context.segments:
        return None
    domain = context.target if adapted.to_source else context.source
    images, classifier = domain.images[:MEASURED], supervised or adapted.source_only
    before = _predictions(context, classifier, images)
    if supervised and not adapted.to_source:
        assert domain.labels is not None
        before = domain.labels[:MEASURED]
    after = _predictions(context, adapted.source_only if adapted.to_source else classifier, translate(images))
    name = "target_supervised" if supervised else "source_only"
    return {"classifier": name, "direction": direction, "rate": (after != before).double().mean().item()}


def _held_out(context: Context, adapted: AdaptationResult) -> Tensor | None:
    """Scores (N,) of the source model on held-out source images.

    They show, without a label of the target, whether the source model has learned its own domain. Those of the adapted
    model would show little: ADDA's is an encoder of the target alone, and CyCADA's and SimGAN's are trained on
    translations with the source labels, even if the translations changed every class.
    """
    if (held_out := context.held_out) is None:
        return None
    assert held_out.labels is not None
    predictions = _predictions(context, adapted.source_only, held_out.images)
    return significance.scores(predictions, held_out.labels, len(context.classes))


class _OnTarget(NamedTuple):
    """A model's predictions for images of the target: classes (N,) or masks, and probabilities as `rows` has them."""

    predicted: Tensor
    p: Tensor


def _on_target(context: Context, model: Model) -> _OnTarget:
    p = probabilities(model, context.target.images[:MEASURED], context.runtime)
    return _OnTarget(p.argmax(1), rows(p))


def _comparison(context: Context, before: Tensor, after: Tensor, collapse: str) -> dict[str, Any]:
    """Whether the adapted model seems worse than source only, by the criterion that chose it or by its collapse.

    before, after: predictions for the target, as `rows` has them. A method without checkpoints is compared by `im`;
    where the last one is taken, no criterion is trusted, and the collapse alone counts.
    """
    name, doubt = getattr(context.config, "select", "im"), "its predictions collapse" if collapse else ""
    found: dict[str, Any] = {}
    if name != "last":
        of_source, of_adapted = (context.criteria[name](p) for p in (before, after))
        found = {"criterion": name, "source_only": of_source, "adapted": of_adapted}
        if of_adapted < of_source and not doubt:
            doubt = f"{name} is {of_adapted:.4f}, below {of_source:.4f} of source only"
    return {**found, "doubt": doubt}


def _class_frequencies(context: Context, p: Tensor) -> tuple[Tensor, Tensor] | None:
    """The class frequencies (K,) of the source, and of the target as the predictions of the source model suggest.

    p: (N, K), the predictions of the source model for images of the target.
    """
    if context.segments or not len(context.source):
        return None
    assert context.source.labels is not None
    source = label_shift.frequencies(context.source.labels, len(context.classes))
    return source, label_shift.estimated(p, source)


def _log_warnings(adapted: AdaptationResult) -> list[str]:
    """Warnings about what the stages have logged."""
    found = []
    for run in adapted.stages:
        monitor = translation.GanMonitor(REMEDIES.get(run.folder.name, REMEDY))
        found += [f"{run.folder.name}: {words}" for line in run.metrics() if (words := monitor.warning(line))]
    return found


def _features_of_domains(context: Context, adapted: AdaptationResult) -> list[tuple[Tensor, Tensor]]:
    """The features of (source, target) images by the source model, and by the adapted ones; none without a source."""
    if not len(context.source):
        return []
    source, target = context.source.images[:POINTS], context.target.images[:POINTS]
    source_only, runtime = adapted.source_only, context.runtime
    before = (features(source_only, source, runtime), features(source_only, target, runtime))
    encoder, seen = adapted.source_encoder or adapted.model, source
    if adapted.to_target and encoder is not source_only:  # the images that it was trained on
        seen = adapted.to_target(source)
    after = (features(encoder, seen, runtime), features(adapted.model, target, runtime))
    return [before, after]


def _translations(context: Context, adapted: AdaptationResult) -> dict[str, Image]:
    """Images, their translations, and images of the other domain to compare them with."""
    source, target = context.source.images[:SAMPLES], context.target.images[:SAMPLES]
    images = {}
    for name, translate, originals, others in (
        (("source", "target"), adapted.to_target, source, target),
        (("target", "source"), adapted.to_source, target, source),
    ):
        if translate:
            sets = [(each.float() / 255).split(1) for each in (originals, translate(originals), others)]
            titles = (name[0], f"{name[0]} → {name[1]}", f"{name[1]} (others)")
            rows = list(zip(*sets, strict=False))  # a domain may have fewer images
            images[f"{name[0]}-translated-to-{name[1]}"] = sample_sheets.columns(titles, rows)
    return images


def result(
    seeds: Sequence[SeedResult], task: str, classes: Sequence[str], test: Domain | None, keep: str
) -> dict[str, Any]:
    """The result over all seeds, as results.json has it. keep: the model that is handed out, "best" or "adapted".

    With a test set each row has mean, standard deviation, interval and the value of each run, and there are a
    significance test and the accuracy, or Dice coefficient, of each class. Label flips, held-out scores, label shift,
    selection, the comparison with source only without labels, and guards follow, where the method has them.
    """
    metric, first = significance.METRICS[task], seeds[0]
    whole: dict[str, Any] = {"metric": metric, "seeds": [each.seed for each in seeds]}
    guards = [f"seed {each.seed}: {words}" for each in seeds for words in each.guards]
    guards += [f"seed {each.seed}: {words}" for each in seeds if (words := each.doubt(keep))]
    if test:
        whole |= _table(seeds, task, classes, test)
        guards += [words] if (words := significance.worse(whole, metric)) else []
    flips = [each.label_flips for each in seeds if each.label_flips]
    if len(flips) == len(seeds):
        rates = [each["rate"] for each in flips]
        common = {name: flips[0][name] for name in ("classifier", "direction")}
        whole["label_flip_rate"] = {**common, "mean": sum(rates) / len(rates), "runs": rates}
    if first.held_out is not None:
        whole["held_out_images"] = len(first.held_out)
        whole["held_out"] = significance.figure([each.held_out for each in seeds if each.held_out is not None], task)
    if frequencies := [each.frequencies for each in seeds if each.frequencies]:
        source, target = (torch.stack(each).mean(0) for each in zip(*frequencies, strict=True))
        whole["label_shift"] = _label_shift(source, target, classes)
        assuming = [name for name, method in METHODS.items() if method.equal_frequencies]
        guards += [words] if (words := label_shift.warning(target, source, classes, assuming)) else []
    if first.selection is not None:
        whole["selection"] = [each.selection for each in seeds]
    whole["kept"] = [{"model": each.kept(keep), **each.comparison} for each in seeds]
    for name in first.facts:
        whole[name] = [each.facts[name] for each in seeds]
    return whole | {"guards": guards}


def _label_shift(source: Tensor, target: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """The class frequencies (K,) of both domains, and how far they are from each other."""
    named = {
        name: dict(zip(classes, values.tolist(), strict=True))
        for name, values in (("source", source), ("estimated", target))
    }
    return {**named, "total_variation": label_shift.total_variation(source, target)}


def _table(seeds: Sequence[SeedResult], task: str, classes: Sequence[str], test: Domain) -> dict[str, Any]:
    """The rows measured on the test set, the test of source only against adapted, and the figures of each class."""
    assert test.labels is not None
    labels, first = test.labels, seeds[0].predictions
    names = [name for name in ROWS if name in first] + [name for name in first if name not in ROWS]
    scores = {n: [significance.scores(each.predictions[n], labels, len(classes)) for each in seeds] for n in names}
    table: dict[str, Any] = {"test_images": len(test)}
    table |= {name: significance.figure(runs, task) for name, runs in scores.items()}
    compare = significance.mcnemar if task == "classify" else significance.sign
    pairs = zip(scores["source_only"], scores["adapted"], strict=True)
    table["mcnemar" if task == "classify" else "sign_test"] = [compare(*pair) for pair in pairs]
    table["gap_closed"] = significance.gap_closed(table)
    table["per_class"] = {
        name: significance.per_class([each.predictions[name] for each in seeds], labels, classes) for name in names
    }
    return table
