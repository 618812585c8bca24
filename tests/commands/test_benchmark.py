"""`mlcli benchmark`: which engines are measured, and what is said of them."""

import csv
import io
import json

import pytest

from mlcli.methods.evaluation import engine_speed
from mlcli.methods.evaluation.engine_speed import Candidate
from mlcli.runtime import optional_packages
from tests.cli import mlcli
from tests.tiny import class_folders

QUICK = ("--rounds", "2", "--seconds", "0", "--batch-size", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("photos"), per_class=2, size=20)


def test_each_engine_is_measured_and_compared(colors, photos):
    words = ["benchmark", colors, photos, *QUICK, "--engine", "torch", "--engine", "onnxruntime"]
    found = json.loads(mlcli(*words, "--format", "json").stdout)
    named = [(entry["engine"], entry["precision"]) for entry in found["measured"]]
    assert named[:3] == [("torch, unchanged", "fp32"), ("torch", "fp32"), ("torch", "bf16")][: len(named[:3])] or (
        named[:3] == [("torch, unchanged", "fp32"), ("torch", "fp32"), ("onnxruntime", "fp32")]
    )
    assert named[-1] == ("onnxruntime", "int8") and found["images"] == 6 and found["batch_size"] == 4
    for entry in found["measured"]:
        assert entry["slowest"] <= entry["images_per_second"] <= entry["fastest"]
        assert entry["precision"] != "fp32" or (entry["same_first_class"] == 1 and entry["largest_difference"] < 1e-3)
    assert found["measured"][0]["ratio"] == 1


def test_formats(colors):
    words = ["benchmark", colors, *QUICK, "--engine", "torch"]
    printed = mlcli(*words).stdout
    assert "random inputs" in printed and "Take torch in" in printed and "int8" not in printed
    lines = list(csv.DictReader(io.StringIO(mlcli(*words, "--format", "csv").stdout)))
    assert float(lines[0]["images_per_second"]) > 0 and lines[1]["engine"] == "torch" and lines[1]["error"] == ""


def test_what_is_not_installed_is_a_line(colors, monkeypatch):
    monkeypatch.setattr(optional_packages, "EXTRAS", {"onnx": ("onnx",), "openvino": ("no_such_package",)})
    result = mlcli("benchmark", colors, *QUICK, "--engine", "openvino")
    assert "pip install no_such_package" in result.stdout


def test_the_fastest_of_those_that_agree_is_taken():
    slow, fast, wrong, absent = (Candidate(name, "fp32") for name in ("slow", "fast", "wrong", "absent"))
    for candidate, rates, same in ((slow, [9.0, 1.0, 2.0], 1.0), (fast, [3.0], 0.98), (wrong, [8.0], 0.5)):
        candidate.rates, candidate.same = rates, same
    assert slow.rate == 2 and absent.rate == 0
    assert engine_speed.fastest([slow, fast, wrong, absent], 0.98) is fast


def test_measurements_alternate():
    import torch

    order = []
    candidates = [Candidate(name, "fp32", lambda batch, name=name: order.append(name) or batch) for name in "ab"]
    engine_speed.measure(candidates, torch.zeros(2, 3), rounds=2, least_seconds=0)
    assert order == ["a", "b", "a", "b", "a", "b"]  # once each before, then by rounds
    assert all(len(candidate.rates) == 2 for candidate in candidates)
