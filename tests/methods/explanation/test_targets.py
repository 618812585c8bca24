import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.explanation.targets import Targets
from mlcli.models import registry


@pytest.fixture
def logits():
    return torch.tensor([0.0, 5, 1, 4, 2, 0, 0, 0, 3, 0])


def names(model, logits, *texts, against=None):
    return [target.name for target in Targets(model, texts, against).of(logits)]


def test_classes_by_rank_and_by_name(cifarnet, logits):
    assert names(cifarnet, logits, "predicted") == ["automobile"]
    assert names(cifarnet, logits, "top-3") == ["automobile", "cat", "ship"]
    assert names(cifarnet, logits, "cat", "3", "predicted", "top-2") == ["cat", "automobile"]  # none twice
    assert names(cifarnet, logits, "top-99") == [cifarnet.classes[i] for i in (1, 3, 8, 4, 2, 0, 5, 6, 7, 9)]


def test_of_a_tie_the_first_class(cifarnet):
    assert names(cifarnet, torch.zeros(10), "predicted", "top-2") == ["airplane", "automobile"]


def test_units_and_expressions(cifarnet, logits):
    assert names(cifarnet, logits, "conv4:12", "conv3") == ["conv4:12", "conv3"]
    assert names(cifarnet, logits, "conv4:0-2") == ["conv4:0", "conv4:1", "conv4:2"]
    assert names(cifarnet, logits, "conv4:12@center - 0.5*logit:cat") == ["conv4:12@center - 0.5*logit:cat"]


def test_against_another_class(cifarnet, logits):
    assert names(cifarnet, logits, "dog", "predicted", against="cat") == ["dog against cat", "automobile against cat"]
    assert names(cifarnet, logits, "predicted", against="automobile") == ["cat against automobile"]
    (target,) = Targets(cifarnet, ["ship"], "cat").of(logits)
    assert target.probability(logits) == pytest.approx(torch.sigmoid(torch.tensor(3.0 - 4.0)).item())
    (target,) = Targets(cifarnet, ["ship"]).of(logits)
    assert target.probability(logits) == pytest.approx(logits.softmax(0)[8].item())
    (target,) = Targets(cifarnet, ["conv4:1"]).of(logits)
    assert target.probability(logits) is None


@pytest.mark.parametrize(
    "texts, against, said",
    [
        (["catt"], None, "--target catt: no class of cifarnet; did you mean cat"),
        (["99"], None, "--target 99: no class of cifarnet"),
        (["top-0"], None, "--target top-0: no class"),
        (["conv9:1"], None, "conv9: no layer"),
        (["conv4:1 - tv"], None, "tv is no value of the network"),
        (["diversity(conv4)"], None, "is no value of the network"),
        (["cat"], "cat", "--against cat: is the target itself"),
        (["cat"], "dogg", "--against dogg: no class"),
    ],
)
def test_what_is_no_target(cifarnet, texts, against, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        Targets(cifarnet, texts, against)


def test_classes_need_a_classifier():
    model = registry.create("cifarnet", ("a", "b"), 16)
    model.classes = ()
    for texts, against in ((["predicted"], None), (["cat"], None), (["conv1:0"], "cat")):
        with pytest.raises(UsageError, match="knows no classes"):
            Targets(model, texts, against)
