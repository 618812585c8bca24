"""What it takes to add to the catalog: an architecture, or a source of models, in two files at most."""

import pytest
import torch
from torch import nn

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.io import schema
from mlcli.methods.learning import configs
from mlcli.models import artifacts, catalog, pretrained, registry, sizes
from mlcli.models.sources import builtin
from mlcli.models.sources.source import Architecture, Entry, PretrainedSpec, Source, TrainingDefaults

# -- a new architecture ------------------------------------------------------------------------------------------------


class ToyNet(nn.Module):
    """File 1: the network."""

    def __init__(self, num_classes: int, channels: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.classifier = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.classifier(self.conv(x).relu().mean((2, 3)))


@pytest.fixture
def toy_net(monkeypatch):
    """File 2: its entry."""
    entry = Architecture(
        "toynet",
        ToyNet,
        schema.record({}, {"channels": schema.choice(1, 3)}, closed=True),
        lambda size, channels: {"channels": channels},
        pretrained=None,
        channels=(1, 3),
        smallest=8,
        default_size=32,
        follows_images=True,
        training=TrainingDefaults(optimizer="muon", largest_batch=10),
    )
    monkeypatch.setitem(builtin.ARCHITECTURES, "toynet", entry)


def test_a_new_architecture_is_trained_saved_and_opened(toy_net, tmp_path):
    model = registry.create("toynet", ["a", "b"], 8, channels=1)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 2)
    artifacts.save(tmp_path / "model.safetensors", model.network.state_dict(), model.describe())
    back = registry.load(str(tmp_path))
    assert back.hash == model.hash and isinstance(back.network, ToyNet)
    learner = pretrained.learner(back, ["x", "y", "z"], None)
    assert torch.equal(learner.network.conv.weight, back.network.conv.weight)


def test_what_its_entry_says_is_what_happens(toy_net):
    with pytest.raises(UsageError, match="--size 7: toynet needs at least 8 pixels"):
        registry.create("toynet", ["a"], 7)
    with pytest.raises(UsageError, match="neither a run folder nor a known model"):
        registry.load("toynet")
    with pytest.raises(UsageError, match="toynet comes without weights"):
        pretrained.known("toynet")
    with pytest.raises(UsageError, match="did you mean toynet"):
        registry.create("toynett", ["a"], 8)
    assert sizes.default_size("toynet", []) == 32 and "toynet" not in catalog.nameable()
    config = configs.supervised({}, 10_000, catalog.training_defaults("toynet"), True, configs.Supervised)
    assert (config.optimizer, config.batch_size) == ("muon", 10)


# -- a new source ------------------------------------------------------------------------------------------------------


class ToySource(Source):
    """File 1: the source. Its weights are ones."""

    def names(self):
        return ["toy/ones"]

    def resolve(self, name):
        return name if name in self.names() else None

    def architecture(self, name):
        def spec():
            return PretrainedSpec(ClassNames(("no", "yes")), Preprocessing(crop=8, mean=(0.0,) * 3, std=(1.0,) * 3))

        return Architecture(name, ToyNet, schema.record({}, closed=True), lambda size, channels: {}, spec)

    def stored(self, name):
        return None

    def fetch(self, name, network):
        for parameter in network.parameters():
            nn.init.ones_(parameter)

    def entry(self, name):
        return Entry(name, 0.0, 8, 2, None, "MIT", False)

    def converted(self, name, network, tensors):
        return {key.replace("body", "conv").replace("fc", "classifier"): tensor for key, tensor in tensors.items()}


@pytest.fixture
def toy_source(monkeypatch):
    """File 2: its entry."""
    monkeypatch.setattr(catalog, "SOURCES", (ToySource(), *catalog.SOURCES))


def test_a_new_source_is_named_listed_opened_and_trained(toy_source, tmp_path):
    model = registry.load("toy/ones")
    assert model.classes == ("no", "yes") and model(torch.zeros(1, 3, 8, 8)).tolist() == [[5, 5]]
    assert catalog.entries("toy/*") == [Entry("toy/ones", 0.0, 8, 2, None, "MIT", False)]
    assert any(entry.name == "toy/ones" for entry in catalog.entries("t*/ones"))
    created = registry.create("toy/ones", ["a", "b"], 8)
    artifacts.save(tmp_path / "model.safetensors", created.network.state_dict(), created.describe())
    assert registry.load(str(tmp_path)).hash == created.hash
    assert pretrained.known("toy/ones").classes == ("no", "yes")
    with pytest.raises(UsageError, match="--gray: toy/ones takes color images"):
        registry.create("toy/ones", ["a"], 8, channels=1)


def test_weights_in_the_names_of_their_authors_are_converted(toy_source, tmp_path):
    ones = registry.load("toy/ones").network.state_dict()
    theirs = {key.replace("conv", "body").replace("classifier", "fc"): 2 * tensor for key, tensor in ones.items()}
    torch.save(theirs, tmp_path / "theirs.pth")
    assert registry.load("toy/ones", tmp_path / "theirs.pth").network.conv.bias.tolist() == [2, 2, 2, 2]
