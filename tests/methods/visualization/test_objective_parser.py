import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.visualization.objective_parser import parse
from mlcli.models import registry


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    classes = ["cat", "jack-o'-lantern", "golden retriever", "3", "a+b"]
    return registry.create("cifarnet", classes, 32)


def read(text, model):
    return [[(factor, term.text) for factor, term in each.terms] for each in parse(text, model)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("conv4:12", [(1, "conv4:12")]),
        (" conv4:12@center ", [(1, "conv4:12@center")]),
        ("conv4:12@2,3", [(1, "conv4:12@2,3")]),
        ("conv3", [(1, "conv3")]),
        (
            "conv4:12 + 0.5*conv5:7 - 100*diversity(conv4)",
            [(1, "conv4:12"), (0.5, "conv5:7"), (-100, "diversity(conv4)")],
        ),
        ("-conv4:1", [(-1, "conv4:1")]),
        ("2*-(conv4:1 - 3*tv)*.5", [(-1, "conv4:1"), (3, "tv")]),
        ("conv4:1-tv", [(1, "conv4:1"), (-1, "tv")]),
        ("conv4:12-2*tv", [(1, "conv4:12"), (-2, "tv")]),
        ("conv4:1--1e-1 * l2", [(1, "conv4:1"), (0.1, "l2")]),
        ("logit:cat - logit:jack-o'-lantern", [(1, "logit:cat"), (-1, "logit:jack-o'-lantern")]),
        ("logit:golden retriever*2 + blur", [(2, "logit:golden retriever"), (1, "blur")]),
        ("logit:'a+b'+logit:\"cat\"", [(1, "logit:a+b"), (1, "logit:cat")]),
        ("logit:3 + logit:4", [(1, "logit:3"), (1, "logit:a+b")]),
        ("features:9", [(1, "features:9")]),
        ("2*negative(conv4:1@center) - tv", [(2, "negative(conv4:1@center)"), (-1, "tv")]),
        ("conv1.conv:3", [(1, "conv1.conv:3")]),
    ],
)
def test_one_objective(model, text, expected):
    (found,) = read(text, model)
    assert [term for _, term in found] == [term for _, term in expected]
    assert [factor for factor, _ in found] == pytest.approx([factor for factor, _ in expected])


@pytest.fixture(scope="module")
def synsets():
    torch.manual_seed(0)
    wnids = ["n02129604", "n02012849", "n03126707", "n03710637", "n03710721", "n03590841", "n07742313", "n01843065"]
    return registry.create("cifarnet", wnids, 32)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("tiger", 0),
        ("n02129604", 0),
        ("0", 0),
        ("Panthera tigris", 0),
        ("panthera_tigris", 0),
        ("crane (n02012849)", 1),
        ("n03126707", 2),
        ("maillot (n03710637)", 3),
        ("maillot, tank suit", 4),
        ("tank suit", 4),
        ("jack-o'-lantern", 5),
        ("Granny Smith", 6),
        ("granny smith", 6),
    ],
)
@pytest.mark.parametrize("form", ["{}", '"{}"', "'{}'", "  {}  "])
def test_a_class_by_each_of_its_names(synsets, name, expected, form):
    text = f"(2*logit:{form.format(name)} - tv)*1 - logit:{form.format(name)}-logit:jacamar"
    (objective,) = parse(text, synsets)
    assert [(factor, term.unit) for factor, term in objective.terms] == [
        (2, expected),
        (-1, 0),
        (-1, expected),
        (-1, 7),
    ]
    assert parse(str(objective), synsets) == [objective]


def test_a_name_of_two_classes_is_asked_for_by_id(synsets):
    with pytest.raises(UsageError, match=r"'crane - tv' .*crane: stands for 2 classes.*n02012849.*n03126707"):
        parse("logit:crane - tv", synsets)


def test_several_units(model):
    assert read("conv4:3-5,9", model) == [[(1, f"conv4:{unit}")] for unit in (3, 4, 5, 9)]
    assert read("-2*conv4:3-4@center + tv", model) == [[(-2, f"conv4:{u}@center"), (1, "tv")] for u in (3, 4)]
    assert read("conv3:0-1 + conv4:5,7", model) == [
        [(1, "conv3:0"), (1, "conv4:5")],
        [(1, "conv3:1"), (1, "conv4:7")],
    ]
    assert [terms[0][1] for terms in read("logit:all", model)] == [f"logit:{name}" for name in model.classes]
    assert read("conv4:7,3-4,3", model) == [[(1, f"conv4:{unit}")] for unit in (7, 3, 4)]  # none twice
    assert len(parse("conv1:all", model)) == 64


def test_units_and_classes_are_where_they_should_be(model):
    (objective,) = parse("conv4:12@2,3 + logit:golden retriever", model)
    (_, neuron), (_, logit) = objective.terms
    assert (neuron.kind, neuron.unit, neuron.position) == ("unit", 12, (2, 3))
    assert (logit.unit, logit.layer.shape) == (2, (5,))


def test_an_objective_as_text_means_the_same(model):
    text = "conv4:12 + 0.5*conv5:7@center - 100*diversity(conv4) - logit:cat"
    assert str(parse(text, model)[0]) == text


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "at its end (character 1)"),
        ("conv4:12 +", "at its end (character 11): a layer"),
        ("conv4:12 + * 3", "at '* 3' (character 12)"),
        ("conv4:12 conv5:1", "(character 10): +, -, * or the end"),
        ("conv9:1", "conv9: no layer of cifarnet; did you mean conv"),
        ("tvv", "did you mean tv"),
        ("conv4:9999", "'9999' (character 7): conv4 has the units 0 to "),
        ("conv4:5-3", "the range 5-3 runs backwards"),
        ("conv4:0-99999999999", "has the units 0 to "),
        ("conv4:x", "the number of a unit is expected, as in conv4:12"),
        ("conv4:1@up", "center or a position"),
        ("conv4@center", "name the unit of this position, as in conv4:12@center"),
        ("features:3@center", "is not a map and has no positions"),
        ("logit:caat", "did you mean cat"),
        ("logit:77", "has the classes 0 to 4"),
        ("2*conv4:1 + 1e999*tv", "'1e999*tv' (character 13): this number is too large"),
        ("logit:", "the name or number of a class is expected"),
        ("logit", "no layer"),
        ("3", "nothing to maximize"),
        ("conv4:1 + 3", "a number alone"),
        ("conv4:1*conv4:2", "one side of * must be a number"),
        ("(conv4:1", ") is expected"),
        ("diversity(conv4", ") is expected"),
        ("diversity()", "the name of a layer is expected"),
        ("negative(conv4)", "'conv4)' (character 10): a unit is expected, as in negative(conv4:12)"),
        ("negative(conv4:1", ") is expected"),
        ("conv4:0-2 + conv3:0-4", "ranges of lengths 3 and 5"),
    ],
)
def test_errors_say_where(model, text, problem):
    with pytest.raises(UsageError) as caught:
        parse(text, model)
    assert problem in str(caught.value) and repr(text) in str(caught.value)
