"""What files of weights say of themselves: whatever stands there, a model or one message comes of it, and at once."""

import json
import socket
import time
from dataclasses import replace

import pytest
import torch

from mlcli.data.pairs import ImageSpec
from mlcli.errors import MlcliError, WeightsError
from mlcli.methods.adaptation.seuda import behind
from mlcli.methods.generation import sampling
from mlcli.methods.metric_learning import embedder
from mlcli.methods.metric_learning.embedder import Calibration, Siamese
from mlcli.methods.metric_learning.roc import Roc
from mlcli.models import artifacts, registry, translators
from mlcli.networks.dcgan import Generator
from mlcli.runtime.device import Runtime
from mlcli.training import run_folder
from tests.mutations import mutations

RUNTIME = Runtime.choose("cpu", "fp32")
BAD = (None, -1, 10**6, float("nan"), "../x", [])


def classifier(architecture: str, size: int, channels: int):
    model = registry.create(architecture, ["cat", "dog"], size, channels)
    return model.network.state_dict(), model.describe()


def translator(name: str, source: ImageSpec, target: ImageSpec):
    made = translators.create(name, source, target, (16, 16), filters=2)
    tensors = {f"AtoB.{key}": tensor for key, tensor in made.network.state_dict().items()}
    return tensors, {"kind": "translator", "generators": {"AtoB": made.describe()}}


def behind_a_generator():
    made = translators.create("resnet-6", ImageSpec(1), ImageSpec(1), (20, 20), filters=2)
    model = behind(made, registry.create("lenet", ["cat", "dog"], 20, 1))
    return model.network.state_dict(), model.describe()


def gan():
    network = Generator(16, 3, 8, 2, 2)
    return network.state_dict(), sampling.Sampler(network, ("cat", "dog"), RUNTIME).describe()


def siamese(layer: str = ""):
    calibration = replace(Calibration.of(Roc(torch.arange(5.0), torch.arange(5.0) + 2), None), curve={"threshold": [1]})
    model = registry.create("cifarnet" if layer else "smallnet", ["a", "b"], 16, 3 if layer else 1)
    space = embedder.Whitened(64 * embedder.REGIONS**2) if layer else embedder.Sphere(2)
    made = Siamese(model, space, 2, False, False, RUNTIME, calibration, layer)
    return made.state(), made.describe()


def use_model(folder):
    model = registry.load(str(folder))
    model(model.preprocessing.prepare(torch.rand(3, 40, 50))[None])


def use_translator(folder):
    translator = translators.load(folder)
    side = 4 * translator.multiple
    assert side <= 1 << 14
    translator(torch.zeros(1, 1 if translator.source.labels else translator.source.channels, side, side))


def use_generator(folder):
    sampler = sampling.load(folder, RUNTIME)
    sampler.grid(*sampling.draw(sampler, 4, torch.Generator()))


def use_siamese(folder):
    network = embedder.load(folder, RUNTIME)
    points = network.points(network.model.preprocessing.prepare(torch.rand(3, 40, 50))[None])
    network.calibration.probability(network.distances(points, points))


CASES = {
    "lenet": (lambda: classifier("lenet", 20, 1), use_model),
    "smallnet": (lambda: classifier("smallnet", 20, 3), use_model),
    "torchvision": (lambda: classifier("squeezenet1_1", 40, 3), use_model),
    "timm": (lambda: classifier("timm/test_vit", 32, 3), use_model),
    "behind a generator": (behind_a_generator, use_model),
    "unet": (lambda: translator("unet", ImageSpec(3), ImageSpec(1)), use_translator),
    "resnet": (lambda: translator("resnet-6", ImageSpec(1, 4), ImageSpec(3)), use_translator),
    "gan": (gan, use_generator),
    "siamese": (siamese, use_siamese),
    "siamese of a layer": (lambda: siamese("conv1"), use_siamese),
}


def reordered(document):
    """As a file has it."""
    return json.loads(json.dumps(document))


@pytest.mark.parametrize("case", [case for case in CASES if case != "siamese of a layer"])  # of the same description
def test_no_value_in_a_description_is_a_traceback_or_a_hang(case, tmp_path):
    make, use = CASES[case]
    tensors, description = make()
    run_folder.save_tensors(tmp_path / "model.safetensors", tensors, description)
    use(tmp_path)
    refused = 0
    for what, changed in mutations(reordered({"format": artifacts.FORMAT, **description}), BAD):
        run_folder.save_tensors(tmp_path / "model.safetensors", tensors, changed)
        began = time.process_time()
        try:
            use(tmp_path)
        except MlcliError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600, what
        except Exception as error:
            raise AssertionError(what) from error
        assert time.process_time() - began < 5, what
    assert refused > 50


@pytest.mark.parametrize(
    "case, where, value, message",
    [
        ("lenet", "preprocessing crop", 0, "crop should be a whole number from 1 to 4096, is 0"),
        ("lenet", "options channels", -1, "channels should be one of 1, 3, is -1"),
        ("lenet", "preprocessing std", [0.0], "std.0 should be a number from 1e-06 to inf, is 0.0"),
        ("lenet", "preprocessing channels", 3, "should be of 3 numbers"),
        ("smallnet", "options width", 512, "does not fit the network"),
        ("smallnet", "preprocessing crop", 64, "crop 64: the output is 98 for 2 classes"),
        ("unet", "generators AtoB options depth", 10**6, "depth should be a whole number from 1 to 12, is 1000000"),
        ("resnet", "generators AtoB options blocks", 10**6, "blocks should be a whole number from 0 to 100"),
        ("resnet", "generators AtoB options filters", 4096, "does not fit the network"),
        ("resnet", "generators AtoB source labels", -1, "labels should be a whole number from 0 to 256, is -1"),
        ("gan", "options filters", 4096, "does not fit the network"),
        ("gan", "classes", ["cat"], "classes are 1, of a generator of 2"),
        ("siamese", "calibration threshold", "x", "calibration.threshold should be a number, is 'x'"),
        ("siamese of a layer", "layer", "conv9", "description is damaged"),
    ],
)
def test_what_is_wrong_in_a_description_is_said(case, where, value, message, tmp_path):
    make, use = CASES[case]
    tensors, description = make()
    description = reordered(description)
    *way, last = where.split()
    inner = description
    for key in way:
        inner = inner[key]
    inner[last] = value
    run_folder.save_tensors(tmp_path / "model.safetensors", tensors, description)
    with pytest.raises(WeightsError) as raised:
        use(tmp_path)
    assert message in str(raised.value) and str(tmp_path / "model.safetensors") in str(raised.value)


@pytest.mark.parametrize(
    "architecture, options",
    [
        ("fasterrcnn_resnet50_fpn", {}),
        ("fasterrcnn_resnet50_fpn", {"weights_backbone": "DEFAULT"}),
        ("deeplabv3_resnet50", {"weights_backbone": "IMAGENET1K_V1"}),
        ("lraspp_mobilenet_v3_large", {}),
        ("quantized_resnet18", {"quantize": True}),
        ("raft_large", {"weights": "DEFAULT"}),
        ("r3d_18", {}),
        ("resnet18", {"weights": "DEFAULT"}),
        ("resnet18", {"pretrained": True}),
        ("resnet18", {"progress": True}),
        ("timm/hf-hub:timm/resnet18.a1_in1k", {}),
        ("timm/local-dir:/tmp", {}),
        ("hf-hub:timm/resnet18.a1_in1k", {}),
        ("timm/resnet18", {"pretrained": True}),
        ("timm/resnet18", {"checkpoint_path": "evil.pth"}),
        ("timm/resnet18", {"pretrained_cfg": {"file": "evil.pth"}}),
        ("translated", {"architecture": "fasterrcnn_resnet50_fpn", "options": {}}),
        ("../cifarnet", {}),
        ("/work/evil.py", {}),
    ],
)
def test_a_file_can_have_nothing_built_that_downloads_or_unpickles(architecture, options, tmp_path, monkeypatch):
    tensors, description = behind_a_generator()
    if architecture == "translated":
        options = description["options"] | options
    run_folder.save_tensors(
        tmp_path / "model.safetensors", tensors, description | {"architecture": architecture, "options": options}
    )

    def refuse(*_, **__):
        raise AssertionError("opening a file reached out")

    for owner, name in ((torch, "load"), (torch.hub, "load_state_dict_from_url"), (socket.socket, "connect")):
        monkeypatch.setattr(owner, name, refuse)
    with pytest.raises(WeightsError, match="its description is damaged"):
        registry.load(str(tmp_path))


@pytest.mark.parametrize("metadata", ["", "[]", "null", "5", '"x"', "{", "[" * 5000, "\ud800"])
def test_metadata_that_is_no_object_is_said(metadata, tmp_path):
    file = tmp_path / "model.safetensors"
    header = json.dumps({"__metadata__": {"mlcli": metadata}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        registry.load(str(tmp_path))


@pytest.mark.parametrize("name", ["nosuchrun", "nosuchrun/model.safetensors", "a/b/c.safetensors", "empty"])
def test_the_message_on_a_missing_run_speaks_of_a_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    opened = {
        "pix2pix, cyclegan or adapt": lambda: translators.load(name),
        "gan": lambda: sampling.load(name, RUNTIME),
        "siamese-train": lambda: embedder.load(name, RUNTIME),
    }
    problem = "no run in this folder" if name == "empty" else "no such run"
    for made_by, load in opened.items():
        told = f"{name}: {problem}; name the folder of a run of mlcli {made_by}, or its model.safetensors"
        with pytest.raises(WeightsError, match=f"^{told}$"):
            load()


def test_a_description_is_read_before_the_memory_is_taken():
    """Sizes that fit no memory are refused by the tensors of the file."""
    tensors, description = gan()
    description = reordered(description)
    description["options"] |= {"size": 1024, "latent": 1 << 16, "filters": 4096}
    from mlcli.models.fitting import built

    began = time.process_time()
    with pytest.raises(WeightsError, match="does not fit the network"):
        built(lambda: Generator(**description["options"]), tensors, "a.safetensors")
    assert time.process_time() - began < 5
