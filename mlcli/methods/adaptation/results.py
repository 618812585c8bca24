"""What one run of a method came to, and the result of several: the table of `mlcli adapt`.

The labels of the test set are looked at here, after everything is trained and chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlcli.data.domains import Domain
from mlcli.methods.adaptation import projection
from mlcli.methods.adaptation.context import REMEDIES, REMEDY, AdaptationContext, AdaptationResult, answers, at_once
from mlcli.methods.adaptation.encoder import penultimate
from mlcli.methods.evaluation import evidence
from mlcli.methods.generation import translation
from mlcli.models.registry import Model

POINTS, SHOWN, JUDGED = 400, 10, 2000
PART = 100  # images at a time, at most
ROWS = ("source_only", "adapted", "last", "best_possible", "target_supervised")


@dataclass
class SeedResult:
    """One seed. called: for each row of the table the classes or masks that the test images are called.

    held_out: the scores of the source model on images that were held out.
    """

    seed: int
    called: dict[str, Tensor] = field(default_factory=dict)
    selection: dict = field(default_factory=dict)
    label_flips: dict | None = None
    held_out: Tensor | None = None
    guards: list[str] = field(default_factory=list)
    images: dict[str, Tensor] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)


def measure(
    setting: AdaptationContext, adapted: AdaptationResult, test: Domain | None, supervised: Model | None
) -> SeedResult:
    """One seed's evidence. supervised: trained on the labels of the target, where these were given."""
    trial = SeedResult(setting.seed, facts=adapted.facts)
    called = {"source_only": adapted.source_only, "adapted": adapted.model, **adapted.alone}
    if supervised:
        called["target_supervised"] = supervised
    if test:
        trial.called = {name: _called(setting, model, test.images) for name, model in called.items()}
        trial.called |= _moments(setting, adapted, test)
    candidates = adapted.candidates
    trial.selection = {
        "criterion": candidates.select,
        "chosen": candidates.chosen,
        "candidates": [{"step": step, "score": score} for step, score in sorted(candidates.scores.items())],
    }
    trial.label_flips = _flips(setting, adapted, supervised)
    trial.held_out = _held_out(setting, adapted)
    trial.guards = _guards(setting, adapted)
    trial.images = _images(setting, adapted)
    return trial


def _called(setting: AdaptationContext, model: Model, images: Tensor) -> Tensor:
    return answers(model, images, setting.runtime).argmax(1)


def _moments(setting: AdaptationContext, adapted: AdaptationResult, test: Domain) -> dict[str, Tensor]:
    """The last candidate, and the one that a look at the test labels would have chosen, which nobody may."""
    candidates, called = adapted.candidates, {}
    for step in candidates.scores:
        candidates.restore(step)
        called[step] = _called(setting, adapted.model, test.images)
    candidates.restore(candidates.chosen)
    count = len(adapted.model.classes)
    best = max(called, key=lambda step: evidence.scores(called[step], test.labels, count).mean().item())
    return {"last": called[candidates.last], "best_possible": called[best]}


def _flips(setting: AdaptationContext, adapted: AdaptationResult, supervised: Model | None) -> dict | None:
    """How often the translation that the result relies on changes what an image shows.

    To the target: labels of the source against what the model trained on the target's labels calls the translations.
    To the source: what that model calls target images against what the source model calls their translations. Where
    there is no such model the source model stands in for it, before and after, which counts its ignorance as flips;
    and a translation that has learned to please it, as CyCADA's has, looks better than it is.
    """
    translate, direction = adapted.to_source or adapted.to_target, "to source" if adapted.to_source else "to target"
    if translate is None or setting.source.labels.ndim > 1:
        return None
    domain = setting.target if adapted.to_source else setting.source
    images, judge = domain.images[:JUDGED], supervised or adapted.source_only
    known = _called(setting, judge, images)
    if supervised and not adapted.to_source:
        known = domain.labels[:JUDGED]
    called = _called(setting, adapted.source_only if adapted.to_source else judge, translate(images))
    name = "target_supervised" if supervised else "source_only"
    return {"judge": name, "direction": direction, "rate": (called != known).double().mean().item()}


def _held_out(setting: AdaptationContext, adapted: AdaptationResult) -> Tensor | None:
    """Scores (N,) of the source model on source images that nothing was learned from.

    What shows, without a label of the target, whether it has learned its own domain. Of the adapted model they show
    little: ADDA's forgets the source, and CyCADA's and SimGAN's have learned from such translations with these labels,
    even were each an image of another class.
    """
    if (held := setting.held_out) is None:
        return None
    called = _called(setting, adapted.source_only, held.images)
    return evidence.scores(called, held.labels, len(setting.classes))


def _guards(setting: AdaptationContext, adapted: AdaptationResult) -> list[str]:
    """What went wrong, by what needs no label."""
    found = []
    for run in adapted.stages:
        lines = [line for line in run.metrics() if any(name.endswith("right") for name in line)]
        balance = translation.GanMonitor(REMEDIES.get(run.folder.name, REMEDY))
        found += [f"{run.folder.name}: {words}" for line in lines if (words := balance.warning(line))]
    images = setting.target.images[:JUDGED]
    before, after = (_called(setting, model, images) for model in (adapted.source_only, adapted.model))
    found += [words] if (words := evidence.collapse(before, after, setting.source.labels)) else []
    return found


def _images(setting: AdaptationContext, adapted: AdaptationResult) -> dict[str, Tensor]:
    """Both domains in the plane before and after; translations under their source images."""
    made = {}
    source, target = setting.source.images[:POINTS], setting.target.images[:POINTS]
    before = [_features(setting, adapted.source_only, images) for images in (source, target)]
    encoder, seen = adapted.source_encoder or adapted.model, source
    if adapted.to_target and encoder is not adapted.source_only:  # what it has learned on
        seen = adapted.to_target(source)
    after = [_features(setting, encoder, seen), _features(setting, adapted.model, target)]
    made["domains-before-and-after"] = projection.before_and_after([tuple(before), tuple(after)])
    for name, translate, images, like in (
        ("source-translated-beside-target", adapted.to_target, source, target),
        ("target-translated-beside-source", adapted.to_source, target, source),
    ):
        if translate:
            shown = images[:SHOWN]
            enlarged = [_enlarged(each) for each in (shown, translate(shown), like[:SHOWN])]
            made[name] = translation.sheet([list(each.split(1)) for each in enlarged])
    return made


def _enlarged(images: Tensor, side: int = 64) -> Tensor:
    """(N, C, S, S) uint8 -> in [0, 1], each pixel as a square where there are too few to be seen."""
    times = max(1, side // images.shape[-1])
    return (images.float() / 255).repeat_interleave(times, 2).repeat_interleave(times, 3)


@torch.no_grad()
def _features(setting: AdaptationContext, model: Model, images: Tensor) -> Tensor:
    """What comes into the last layer: (N, F), of a segmenter the mean over all places."""
    means = []
    with penultimate(model.network) as caught:
        for part in images.split(at_once(images, PART)):
            model(part.to(setting.runtime.device))
            values = caught.pop()
            means.append((values.flatten(2).mean(2) if values.ndim == 4 else values).float().cpu())
    return torch.cat(means)


def result(trials: Sequence[SeedResult], task: str, classes: Sequence[str], test: Domain | None) -> dict:
    """The table: every row with mean, sd, interval and runs; tests, selection and guards beside it."""
    metric, whole = evidence.METRICS[task], {"metric": evidence.METRICS[task], "seeds": [t.seed for t in trials]}
    guards = [f"seed {trial.seed}: {words}" for trial in trials for words in trial.guards]
    if test:
        names = [name for name in ROWS if name in trials[0].called]
        names += [name for name in trials[0].called if name not in ROWS]
        scores = {n: [evidence.scores(t.called[n], test.labels, len(classes)) for t in trials] for n in names}
        whole["test_images"] = len(test)
        whole |= {name: evidence.figure(runs, task) for name, runs in scores.items()}
        compare = evidence.mcnemar if task == "classify" else evidence.sign
        pairs = zip(scores["source_only"], scores["adapted"], strict=True)
        whole["mcnemar" if task == "classify" else "sign_test"] = [compare(*pair) for pair in pairs]
        whole["gap_closed"] = evidence.gap_closed(whole)
        whole["per_class"] = {
            name: evidence.per_class([trial.called[name] for trial in trials], test.labels, classes) for name in names
        }
        guards += [words] if (words := evidence.worse(whole, metric)) else []
    if all(trial.label_flips for trial in trials):
        rates = [trial.label_flips["rate"] for trial in trials]
        told = {name: trials[0].label_flips[name] for name in ("judge", "direction")}
        whole["label_flip_rate"] = {**told, "mean": sum(rates) / len(rates), "runs": rates}
    if trials[0].held_out is not None:
        whole["held_out_images"] = len(trials[0].held_out)
        whole["held_out"] = evidence.figure([trial.held_out for trial in trials], task)
    whole["selection"] = [trial.selection for trial in trials]
    for name in trials[0].facts:
        whole[name] = [trial.facts[name] for trial in trials]
    return whole | {"guards": guards}
