"""What works on architectures of timm drawn at random, with random weights.

    python tests/benchmarks/timm_architectures.py RESULTS [--count 200] [--seed 0] [--fields 20]

Of each: `layers` (its layers, receptive fields and stages), `classify` (one image of random pixels at the model's own
size, batch 1; the values of the traced last layer must be those of the network) and `maximize` (2 steps on the layer in
the middle of the list, unit 0 of it where it has units). An architecture that knows no classes, or was made for images
that are not square, gets 10 classes as `mlcli train` would give it. Above 400 million parameters traced values are not
compared, and the arithmetic is bf16 where the processor has it. On the first `--fields` with maps that see a part of
the image, of at most 60 million parameters and 300 pixels, receptive fields are compared with what gradients reach.

RESULTS is a file of JSON lines, written as they are done, the small architectures first; what is in it is not done
again.
The rates count all that were drawn.
"""

import argparse
import collections
import copy
import gc
import json
import random
import time
from pathlib import Path

import torch
from timm.layers import create_pool2d
from torch import nn

from mlcli.errors import MlcliError
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.visualization import activation_maximization, configs, objective_parser
from mlcli.models import registry
from mlcli.models.model import Model, logits
from mlcli.models.sources.timm_models import TIMM
from mlcli.models.structure.features import RECTIFIERS, Activations
from mlcli.models.structure.graph import WHOLE, Graph, Layer, graph_of, operation
from mlcli.runtime.device import Runtime, native_bf16

GIANT = 400  # million parameters
CPU = torch.device("cpu")


def built(name: str) -> Model:
    """The model with random weights, on the device that is the default, in evaluation mode."""
    try:
        model = registry.load(name, untrained=True)
    except MlcliError:  # made for images that are not square
        model = None
    if model is None or not model.classes:
        side = model.preprocessing.crop if model else TIMM.entry(name).size
        model = None  # before there are two
        model = registry.create(name, [f"class {number}" for number in range(10)], side)
    model.network.eval().requires_grad_(False)
    return model


def attempt(record: dict, what: str, function):
    """The result of a function; record[what]: 'works', or why not. Seconds are noted."""
    began, result = time.perf_counter(), None
    try:
        result = function()
        record[what] = "works"
    except MlcliError as error:
        record[what] = f"refused: {error}"
    except Exception as error:  # which is a fault of ours
        record[what] = f"FAULT: {type(error).__name__}: {error}".splitlines()[0]
    record[f"{what} seconds"] = round(time.perf_counter() - began, 1)
    return result


def look(name: str) -> dict:
    """Its layers, of weights that take no memory."""
    record = {"name": name}
    with torch.device("meta"):
        model = attempt(record, "meta", lambda: built(name))
    graph = attempt(record, "layers", lambda: graph_of(model)) if model else None
    if model:
        million = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
        record |= {"million parameters": round(million, 1), "size": model.preprocessing.crop}
    if graph:
        middle = graph.layers[len(graph.layers) // 2]
        record |= {
            "nodes": len(graph.layers),
            "stages": {layer.alias: layer.address for layer in graph.layers if layer.alias},
            "finite maps": len(finite(graph)),
            "middle": f"{middle.address} {middle.shape}",
        }
    return record


def run(name: str, giant: bool) -> dict:
    """What it computes, of random weights."""
    record = {"name": name, "giant": giant}
    torch.manual_seed(0)
    model = attempt(record, "build", lambda: built(name))
    if model is None:
        return record
    graph = attempt(record, "layers", lambda: graph_of(model))  # once more, with weights
    runtime = Runtime(CPU, "bf16" if giant and native_bf16(CPU) else "fp32")
    channels, side = model.preprocessing.channels, model.preprocessing.crop
    image = torch.randint(0, 256, (1, channels, side, side), dtype=torch.uint8)

    def classify():
        probabilities = predict(model, image, runtime)
        assert probabilities.shape == (1, len(model.classes)) and probabilities.isfinite().all()

    def compare():
        last = graph_of(model).layers[-1].address
        with torch.inference_mode():
            values, told = (
                Activations(model, [last])(image)[last],
                logits(model.network(model.normalized(image))),
            )
        torch.testing.assert_close(values, told, rtol=1e-3, atol=1e-4 * told.abs().max().item() + 1e-8)

    def maximize():
        layers = graph_of(model).layers
        middle = layers[len(layers) // 2]
        text = f"{middle.address}:0" if middle.units else middle.address
        config = configs.Maximization(steps=2)
        activation_maximization.maximize(model, objective_parser.parse(text, model), config, runtime)

    attempt(record, "classify", classify)
    if graph is None:
        return record | {"maximize": "not run, for it has no layers"}
    if not giant:
        attempt(record, "same values", compare)
    attempt(record, "maximize", maximize)
    return record


# -- receptive fields ----------------------------------------------------------------------------------------


def finite(graph: Graph) -> list[Layer]:
    """The maps whose units see a part of the image."""
    return [layer for layer in graph.layers if layer.is_map and WHOLE not in layer.field]


def linear(activations: Activations) -> None:
    """Leave out what hides that a unit sees a pixel: rectifiers pass all, and the greatest gives way to the mean."""
    extractor = activations.extractor
    for node in list(extractor.graph.nodes):
        if node.op == "call_module":
            parent, _, name = node.target.rpartition(".")
            owner, module = extractor.get_submodule(parent), extractor.get_submodule(node.target)
            setattr(owner, name, without_rectifiers(module))
        elif operation(node).rstrip("_") in RECTIFIERS:
            node.replace_all_uses_with(node.all_input_nodes[0])
            extractor.graph.erase_node(node)
    extractor.recompile()
    extractor.double()


def without_rectifiers(module: nn.Module) -> nn.Module:
    if type(module).__name__ in RECTIFIERS:
        return nn.Dropout().eval()
    if isinstance(module, nn.MaxPool2d):
        if type(module) is not nn.MaxPool2d:  # timm's, which pads as TensorFlow does
            return create_pool2d("avg", module.kernel_size, module.stride, padding="same")
        return nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
    module = copy.deepcopy(module)
    for name, child in module.named_children():
        setattr(module, name, without_rectifiers(child))
    return module


def compare_fields(name: str) -> collections.Counter:
    """How many units see what their box says, a part of it ('less'), or more ('outside')."""
    torch.manual_seed(0)
    model = built(name)
    for parameter in model.network.parameters():
        if not parameter.any():  # branches that begin silent
            nn.init.normal_(parameter)
    graph, counts = graph_of(model), collections.Counter()
    maps = finite(graph)
    chosen = [layer for layer in maps if layer.alias] + random.Random(0).sample(maps, min(4, len(maps)))
    # An alias may be the address of another layer
    chosen = {layer.address: layer for layer in chosen if graph.resolve(layer.address) is layer}
    activations = Activations(model, list(chosen))
    linear(activations)
    side = model.preprocessing.crop
    image = torch.rand(1, model.preprocessing.channels, side, side, dtype=torch.float64, requires_grad=True)
    values = activations.extractor(image)
    weights = {address: torch.rand(layer.units, dtype=torch.float64) for address, layer in chosen.items()}
    for address, layer in chosen.items():
        rows, columns = layer.shape[1:]
        for row, column in ((0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)):
            value = values[address][0, :, row, column] @ weights[address]  # the sum of normed channels is fixed
            (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
            seen = gradient[0].abs().amax(0).nonzero()
            if not len(seen):
                counts["no gradient"] += 1
                continue
            (top, left), (bottom, right) = seen.amin(0).tolist(), (seen.amax(0) + 1).tolist()
            box = layer.box(row, column, side, side)
            within = box[0] <= left and box[1] <= top and right <= box[2] and bottom <= box[3]
            same = box == (left, top, right, bottom)
            verdict = "exact" if same else "less" if within else "outside"
            counts[verdict] += 1
            if verdict != "exact":
                print(f"  {name} {address} ({row}, {column}): box {box}, seen {(left, top, right, bottom)}", flush=True)
    return counts


# -- report --------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fields", type=int, default=20)
    options = parser.parse_args()
    drawn = random.Random(options.seed).sample(TIMM.names(), options.count)
    records = {name: {} for name in drawn}
    for line in options.results.read_text().splitlines() if options.results.exists() else []:
        record = json.loads(line)
        if record["name"] in records:
            records[record["name"]] |= record

    def note(record: dict, *what: str) -> None:
        records[record["name"]] |= record
        with options.results.open("a") as file:
            file.write(json.dumps(record) + "\n")
        told = "; ".join(f"{one} {record[one][:150]}" for one in what if one in record)
        print(f"{record['name']}: {told}", flush=True)
        gc.collect()

    for name in drawn:
        if "meta" not in records[name]:
            note(look(name), "meta", "layers")
    million = {name: record.get("million parameters", 0) for name, record in records.items()}
    for name in sorted(drawn, key=million.get):  # the small ones first
        if "build" not in records[name]:
            note(run(name, million[name] > GIANT), "build", "classify", "same values", "maximize")
    kept = [records[name] for name in drawn]
    for what in ("layers", "classify", "same values", "maximize"):
        works = sum(record.get(what) == "works" for record in kept)
        seconds = sum(record.get(f"{what} seconds", 0) for record in kept)
        print(f"{what}: {works} of {len(kept)} = {works / len(kept):.1%}, {seconds:.0f} s")
        for record in kept:
            if record.get(what) != "works":
                left_out = record.get("build", "not run")  # where it could not be built, nothing was run
                if what == "same values" and record.get("giant"):
                    left_out = "left out, too large"
                print(f"  {record['name']}: {record.get(what, left_out)}")
    suited = [
        record["name"]
        for record in kept
        if record.get("finite maps", 0) > 1 and record["million parameters"] <= 60 and record["size"] <= 300
    ]
    total = collections.Counter()
    began = time.perf_counter()
    for name in suited[: options.fields]:
        total += (counts := compare_fields(name))
        print(f"receptive fields of {name}: {dict(counts)}", flush=True)
    seconds = time.perf_counter() - began
    print(f"receptive fields on {min(options.fields, len(suited))}: {dict(total)} units, {seconds:.0f} s")


if __name__ == "__main__":
    main()
