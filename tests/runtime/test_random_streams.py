"""Random streams: what they depend on, that their purposes do not meet, and that old ones draw the same numbers."""

import ast
from itertools import combinations
from pathlib import Path

import torch

import mlcli
from mlcli.runtime import random_streams
from mlcli.runtime.random_streams import generator, numpy_rng, rng, seed_global

NAMED = {"rng", "numpy_rng", "seed_global"}
FILES = [file for file in Path(mlcli.__file__).parent.rglob("*.py") if file.name != "random_streams.py"]
# The first words of the purposes that one run draws from; besides, every run that trains draws from "training".
RUNS = [
    {"training", "supervised", "evaluation"},
    {"training", "supervised", "pretext", "linear-head", "linear-probe"},
    {"training", "supervised", "finetuning", "linear-head", "evaluation"},
    {"training", "siamese", "identities", "verification"},
    {"training", "gan"},
    {"training", "translation", "cyclegan"},
    {"training", "domains", "model-selection", "evaluation", "adaptation", "adda"},
    {"training", "domains", "model-selection", "evaluation", "adaptation", "simgan"},
    {"training", "domains", "model-selection", "evaluation", "adaptation", "cycada", "translation", "cyclegan", "adda"},
    {"training", "domains", "model-selection", "evaluation", "adaptation", "seuda", "translation", "cyclegan"},
]
# One number, but only the first of the two is drawn by step
APART = {("adda/shifts", "domains/held-out")}


def test_streams_depend_on_every_number_and_on_nothing_else():
    def numbers(*key):
        return torch.rand(4, generator=generator(*key)).tolist()

    torch.manual_seed(1)
    first = numbers(0, 1, 2)
    torch.manual_seed(2)
    assert numbers(0, 1, 2) == first
    others = [numbers(*key) for key in ((1, 1, 2), (0, 2, 2), (0, 1, 3), (1, 0, 2), (0, 1), (2, 1, 0))]
    assert len({tuple(n) for n in (*others, first)}) == 7


def test_neighboring_streams_are_unrelated():
    draws = torch.stack([torch.rand(500, generator=generator(0, step)) for step in range(20)])
    correlation = torch.corrcoef(draws) - torch.eye(20)
    assert correlation.abs().max() < 0.2


def test_a_stream_depends_on_its_purpose():
    purposes = ("gan/latent", "gan/flips", "of a new method", "of another new method")
    assert len({rng(0, purpose, 5).initial_seed() for purpose in purposes}) == len(purposes)
    assert numpy_rng(0, "digits/digit", 5).random() != numpy_rng(0, "of a new method", 5).random()
    seed_global(0, "training/step", 5)
    assert torch.initial_seed() == rng(0, "training/step", 5).initial_seed()


def test_generators_of_devices_are_seeded_where_there_are_such_devices(monkeypatch):
    seeded = []
    for device, module in ((torch.cuda, torch.cuda), (torch.backends.mps, torch.mps)):
        name = "manual_seed_all" if module is torch.cuda else "manual_seed"
        monkeypatch.setattr(module, name, lambda number, name=name: seeded.append((name, number)))
        monkeypatch.setattr(device, "is_available", lambda: False)
    seed_global(0, "training/step", 5)
    assert seeded == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    seed_global(0, "training/step", 5)
    assert seeded == [("manual_seed_all", torch.initial_seed()), ("manual_seed", torch.initial_seed())]


def test_purposes_draw_the_numbers_that_the_results_were_measured_with():
    assert generator(0).initial_seed() == 3980143261097177850
    assert rng(7, "gan/latent", 3).initial_seed() == generator(7, 10, 3).initial_seed() == 8016351500862580152
    assert rng(7, "training/initialization").initial_seed() == generator(7).initial_seed()
    assert numpy_rng(7, "digits/digit", 3).integers(1 << 60) == 595813574988068555


def test_no_two_purposes_of_a_run_have_one_number():
    numbers = random_streams._NUMBERS
    assert {scope for run in RUNS for scope in run} <= {purpose.split("/")[0] for purpose in numbers}
    for run in RUNS:
        drawn = [purpose for purpose in numbers if purpose.split("/")[0] in run and numbers[purpose] is not None]
        for one, other in combinations(drawn, 2):
            assert numbers[one] != numbers[other] or (one, other) in APART, (one, other)


def purposes(file: Path) -> set[str]:
    """The purposes that a file names; a function that is given one passes it on as `purpose`."""
    named = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        where, function = f"{file}:{node.lineno}", ast.unparse(node.func)
        assert function not in ("generator", "random_streams.generator"), f"{where}: a stream without a name"
        texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if function in NAMED:
            assert len(texts) == 1 or ast.unparse(node.args[1]) == "purpose", f"{where}: a purpose that is no text"
            named.update(texts)
        named.update(text for text in texts if text in random_streams._NUMBERS)
    return named


def test_every_stream_of_the_package_is_named_and_every_name_is_used():
    used = set().union(*map(purposes, FILES))
    assert random_streams._NUMBERS.keys() <= used
    assert all("/" in purpose for purpose in used)
