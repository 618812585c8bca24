"""What a translation flips, by domains whose classes can be seen and models that see them without fail."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlcli.data.domains import Domain
from mlcli.methods.adaptation.context import AdaptationResult
from mlcli.methods.adaptation.model_selection import CRITERIA
from mlcli.methods.adaptation.registry import METHODS
from mlcli.methods.adaptation.results import (
    SeedResult,
    _class_frequencies,
    _comparison,
    _held_out,
    _label_flips,
    _on_target,
    result,
)
from mlcli.models import registry
from mlcli.runtime.device import Runtime

FP32 = Runtime(torch.device("cpu"), "fp32")


def dark_and_bright(labels):
    """Images whose class, 0 or 1, is how bright they are."""
    labels = torch.tensor(labels)
    images = (40 + 170 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    return Domain(images, [Path(f"{i}.png") for i in range(len(labels))], labels)


def without_labels(domain):
    return replace(domain, labels=None)


def by_brightness(sign=1):
    """A model that calls an image 1 where it is bright; where it is dark, with sign -1."""
    model = registry.create("lenet", ("dark", "bright"), 28, 1)
    model.network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 2))
    with torch.no_grad():
        model.network[2].weight.copy_(torch.tensor([[-1.0], [1.0]]) * sign)
        model.network[2].bias.zero_()
    return model


def flips(adapted, supervised, source, target):
    context = SimpleNamespace(source=source, target=target, runtime=FP32, segments=False)
    return _label_flips(context, adapted, supervised)


def inverting(count):
    """A translation of the first so many images into the other class."""

    def translate(images):
        return torch.cat([255 - images[:count], images[count:]])

    return translate


def adapted(source_only, **translations):
    return AdaptationResult(source_only, source_only, [], **translations)


def test_a_translation_to_the_target_is_judged_against_the_labels_of_the_source():
    source, target = dark_and_bright([0, 1] * 6), dark_and_bright([1] * 4)
    told = flips(adapted(by_brightness(), to_target=inverting(3)), by_brightness(), source, target)
    assert told == {"classifier": "target_supervised", "direction": "to target", "rate": pytest.approx(3 / 12)}
    # a source model that calls all wrong, before and after, finds the same three flipped
    told = flips(adapted(by_brightness(-1), to_target=inverting(3)), None, source, target)
    assert told == {"classifier": "source_only", "direction": "to target", "rate": pytest.approx(3 / 12)}


def test_a_translation_to_the_source_is_judged_by_what_the_target_was():
    source, target = dark_and_bright([0, 1]), dark_and_bright([0, 1, 1, 1, 0])
    told = flips(adapted(by_brightness(), to_source=inverting(2)), by_brightness(), source, target)
    assert told == {"classifier": "target_supervised", "direction": "to source", "rate": pytest.approx(2 / 5)}
    # the source model sees the translations, the other one the images
    told = flips(adapted(by_brightness(-1), to_source=inverting(2)), by_brightness(), source, target)
    assert told["rate"] == pytest.approx(3 / 5)


def test_labels_of_the_source_are_what_its_translations_are_compared_with():
    """A model of the target that is always wrong finds all but the inverted images changed."""
    source = dark_and_bright([0, 1] * 6)
    told = flips(adapted(by_brightness(), to_target=inverting(3)), by_brightness(-1), source, without_labels(source))
    assert told == {"classifier": "target_supervised", "direction": "to target", "rate": pytest.approx(9 / 12)}


@pytest.mark.parametrize("direction, rate", [("to target", 3 / 12), ("to source", 3 / 5)])
@pytest.mark.parametrize("sign", [1, -1])
def test_label_flips_need_no_labels(direction, rate, sign):
    """Without a model of the target the source model, whether correct or not, tells what changed, by itself alone."""
    source, target = without_labels(dark_and_bright([0, 1] * 6)), without_labels(dark_and_bright([0, 1, 1, 1, 0]))
    translation = {direction.replace(" ", "_"): inverting(3)}
    told = flips(adapted(by_brightness(sign), **translation), None, source, target)
    assert told == {"classifier": "source_only", "direction": direction, "rate": pytest.approx(rate)}


def test_labels_of_the_target_are_not_read():
    """The target has labels in a folder of classes; those that are all wrong change nothing."""
    target = dark_and_bright([0, 1, 1, 1, 0])
    for labels in (None, target.labels, 1 - target.labels):
        given = replace(target, labels=labels)
        told = flips(adapted(by_brightness(), to_source=inverting(2)), by_brightness(), dark_and_bright([0, 1]), given)
        assert told["rate"] == pytest.approx(2 / 5)


def test_no_translation_no_label_flips():
    source = dark_and_bright([0, 1])
    assert flips(adapted(by_brightness()), None, source, source) is None


def test_the_source_model_is_scored_on_what_was_held_out():
    held = dark_and_bright([0, 1, 0, 1, 1])
    held.labels[0] = 1  # a dark one that is predicted bright
    context = SimpleNamespace(held_out=held, classes=("dark", "bright"), runtime=FP32)
    scores = _held_out(context, adapted(by_brightness(), to_target=inverting(2)))
    assert scores.tolist() == [0, 1, 1, 1, 1]
    context.held_out = None
    assert _held_out(context, adapted(by_brightness())) is None


def test_class_frequencies_are_those_of_the_labels_and_of_the_predictions():
    source, target = dark_and_bright([0, 0, 0, 1]), without_labels(dark_and_bright([0] + [1] * 9))
    context = SimpleNamespace(source=source, target=target, classes=("dark", "bright"), runtime=FP32, segments=False)
    model = by_brightness()
    model.network[2].weight.data *= 50  # sure of each image
    known, found = _class_frequencies(context, _on_target(context, model).p)
    assert known.tolist() == [0.75, 0.25] and found.tolist() == pytest.approx([0.1, 0.9], abs=1e-3)
    context.segments = True
    assert _class_frequencies(context, torch.rand(9, 2)) is None


def test_other_class_frequencies_are_in_the_result_and_a_warning():
    frequencies = [torch.tensor([0.5, 0.5]).double(), torch.tensor([0.1, 0.9], dtype=torch.float64)]
    seeds = [SeedResult(0, frequencies=tuple(frequencies)), SeedResult(1, frequencies=(frequencies[0],) * 2)]
    whole = result(seeds[:1], "classify", ("dark", "bright"), None, "best")
    shift = whole["label_shift"]
    assert shift == {
        "source": {"dark": 0.5, "bright": 0.5},
        "estimated": {"dark": 0.1, "bright": 0.9},
        "total_variation": pytest.approx(0.4),
    }
    (words,) = whole["guards"]
    assuming = [name for name, method in METHODS.items() if method.equal_frequencies]
    assert all(name in words for name in ("adda", "seuda", *assuming)) and "class dark, 10% in place of 50%" in words
    both = result(seeds, "classify", ("dark", "bright"), None, "best")  # the mean over seeds is less far away
    assert both["label_shift"]["estimated"] == pytest.approx({"dark": 0.3, "bright": 0.7}) and both["guards"] == []
    assert "label_shift" not in result([SeedResult(0)], "segment", ("background", "dark"), None, "best")


def test_what_seems_worse_than_source_only_is_kept_back_with_a_warning():
    sure, unsure = torch.eye(2).repeat(5, 1), torch.full((10, 2), 0.5)
    context = SimpleNamespace(config=SimpleNamespace(select="im"), criteria=CRITERIA)
    doubtful = SeedResult(3, comparison=_comparison(context, sure, unsure, ""))
    assert doubtful.comparison["doubt"] == "im is 0.0000, below 0.6931 of source only"
    assert doubtful.kept("best") == "source_only" and doubtful.kept("adapted") == "adapted"
    better = SeedResult(4, comparison=_comparison(context, unsure, sure, ""))
    assert better.kept("best") == "adapted" and better.doubt("best") == ""
    collapsed = _comparison(context, unsure, sure, "they collapse")
    assert collapsed["doubt"] == "its predictions collapse"
    context.config.select = "last"  # no criterion is trusted
    assert _comparison(context, sure, unsure, "") == {"doubt": ""}
    assert _comparison(context, sure, sure, "they collapse")["doubt"] == "its predictions collapse"
    assert _comparison(SimpleNamespace(config=None, criteria=CRITERIA), sure, unsure, "")["criterion"] == "im"

    for keep, kept, words in (
        ("best", "source_only", "the source model is handed out in its place"),
        ("adapted", "adapted", "it is handed out all the same"),
    ):
        whole = result([doubtful, better], "classify", ("dark", "bright"), None, keep)
        assert [each["model"] for each in whole["kept"]] == [kept, "adapted"]
        (warning,) = whole["guards"]
        assert (
            warning.startswith("seed 3: the adapted model seems worse than source only (im is 0") and words in warning
        )
