"""Run folders of every command as training leaves them, made by hand in no time, with markup in their names."""

import shutil
from pathlib import Path
from typing import Any

import torch

from mlcli.api import run_reports
from mlcli.imaging import image_io
from mlcli.io.files import write_json
from mlcli.methods.adaptation import projection
from mlcli.methods.metric_learning import verification_results
from mlcli.methods.metric_learning.verification import Pairs
from mlcli.reporting import canvas, sample_sheets
from mlcli.training.run_folder import Run

NASTY = "<b>x</b><script>document.title='broken'</script> & \"$y$\""  # a name that must stay text
CLASSES = ("cat", "dog", NASTY)
DATA = {
    "training": {"root": f"photos/{NASTY}", "count": 30, "classes": 3, "value_range": [0, 255], "hash": "0123" * 16},
    "validation": {"root": "more", "count": 12, "classes": 3, "value_range": [3, 250], "hash": "abcd" * 16},
}


def run(folder: Path, command: str, options: dict[str, Any], steps: int = 6, **metrics: float) -> Run:
    """A run with `steps` logged lines, in which each metric falls from its value toward 0."""
    made = Run(folder)
    line = f"mlcli {command} 'photos/{NASTY}' -o {folder.name}"
    made.create({"command": command, "command_line": line, "options": options, "data": DATA})
    for step in range(1, steps + 1):
        values = {name: value * (1.2 - step / steps) for name, value in metrics.items()}
        made.log(step, values | {"seconds": step})
    return made


def evaluation(confusion: list[list[int]]) -> dict[str, Any]:
    """An evaluation as finetuning writes it."""
    count, correct = sum(map(sum, confusion)), sum(row[index] for index, row in enumerate(confusion))
    return {
        "accuracy": correct / count,
        "interval": [0.5123456, 0.91234567],
        "balanced_accuracy": correct / count,
        "balanced_interval": [0.4987654, 0.9],
        "top5_accuracy": 1.0,
        "count": count,
        "per_class": {
            name: {"accuracy": row[index] / sum(row), "count": sum(row)}
            for index, (name, row) in enumerate(zip(CLASSES, confusion, strict=True))
        },
        "confusion": confusion,
    }


def finetune(folder: Path) -> Run:
    options = {"data": "photos", "model": "cifarnet", "weights": None, "freeze": "all", "lr": 3e-4, "flip": True}
    made = run(folder, "finetune", options)
    made.metrics_file.unlink()
    confusion = [[3, 1, 0], [0, 4, 0], [1, 0, 3]]
    made.save_results({"l2": 0.01, "classes": list(CLASSES), "folds": evaluation(confusion), "misclassified": 2})
    image_io.write(canvas.grid(torch.rand(2, 3, 96, 96), ["a\nas b", "c\nas d"], side=96), made.misclassified_file)
    errors = [
        {"image": f"photos/{NASTY.replace('/', '')}.png", "true": "cat", "predicted": "dog", "probability": 0.91},
        {"image": "photos/second.png", "true": NASTY, "predicted": "cat", "probability": 0.5},
    ]
    for error, box in zip(errors, canvas.grid_boxes(2, 96, 96, side=96, lines=2), strict=True):
        error["box"] = box
    write_json(folder / "misclassified.png.json", {"results": errors})
    return made


def siamese(folder: Path) -> Run:
    options = {"data": "faces", "loss": "softmax", "margin": None, "layer": None, "softmax_scale": 16.0, "flip": True}
    made = run(folder, "siamese-train", options, steps=200, loss=2.0, val_eer=0.4, val_auc=0.9)
    random = torch.Generator().manual_seed(0)
    near, far = torch.randn(40, generator=random) * 0.1 + 0.4, torch.randn(90, generator=random) * 0.15 + 1
    same, index = torch.arange(130) < 40, torch.arange(130)
    pairs = Pairs(index, index, torch.cat([near, far]).clamp_min(0), same)
    made.save_results({"verification": verification_results.results(pairs, 0.62, 0.05)})
    pair = sample_sheets.Pair((torch.rand(3, 16, 16), torch.rand(3, 16, 16)), ("ann", "bob"), "distance 0.123")
    image_io.write(sample_sheets.pairs([pair] * 5), made.samples_folder / "nearest-pairs-00000200.png")
    return made


def cyclegan(folder: Path) -> Run:
    options = {"folder_a": "a", "folder_b": "b", "loss": "least-squares", "gradient_penalty": 10.0, "steps": 6}
    options |= {"epochs": 200, "size": [16, 16], "from_run": None, "overwrite": False}
    made = run(folder, "cyclegan", options, loss_d_AtoB=1.0, loss_d_BtoA=0.7, val_cycle_A=0.3, d_AtoB_accuracy=0.9)
    titles = ("A", "A → B", "A → B → A")
    sheet = sample_sheets.columns(titles, [[torch.rand(1, 3, 16, 16)] * 3] * 2)
    image_io.write(sheet, made.samples_folder / "translations-and-back-00000006.png")
    return made


def adapt(folder: Path) -> Run:
    options = {"source": "mnist", "target": "usps", "method": "adda", "steps": 20, "cycle": None, "hidden": 500}
    made = run(folder, "adapt", options)
    made.metrics_file.unlink()
    figures = {"mean": 0.7654321, "sd": 0.0123456, "interval": [0.7111111, 0.8222222], "runs": [0.75, 0.78]}
    selection = [{"criterion": "im", "chosen": 20, "candidates": [{"step": 20, "score": 1.25}]}] * 2
    made.save_results(
        {
            "method": "adda",
            "metric": "accuracy",
            "seeds": [0, 1],
            "source_only": figures,
            "adapted": figures | {"mean": 0.8},
            "mcnemar": [{"first_alone": 3, "second_alone": 9, "p": 0.0123456}] * 2,
            "per_class": {"source_only": dict.fromkeys(CLASSES, 0.75), "adapted": dict.fromkeys(CLASSES, 0.8)},
            "selection": selection,
            "kept": [
                {"model": "adapted", "criterion": "im", "source_only": 1.0, "adapted": 1.25, "doubt": ""},
                {"model": "source_only", "criterion": "im", "source_only": 1.0, "adapted": 0.5, "doubt": "im is 0.5"},
            ],
            "label_shift": {
                "source": dict.fromkeys(CLASSES, 0.5),
                "estimated": dict.fromkeys(CLASSES, 0.25),
                "total_variation": 0.25,
            },
            "guards": [f"seed 0: {NASTY}"],
        }
    )
    random = torch.Generator().manual_seed(0)
    features = [(torch.randn(40, 5, generator=random), torch.randn(40, 5, generator=random) + 1) for _ in range(2)]
    write_json(made.domains_file, projection.as_json(projection.before_and_after(*features)))
    stage = Run(folder / "seed-0" / "target", is_part=True)
    shutil.copytree(run(folder.with_name("stage"), "train", {}).folder, stage.folder)
    run_reports.write(stage)
    return made


def pretext(folder: Path) -> Run:
    options = {"images": [NASTY, "b"], "task": "rotation", "permutations": 30, "probe": "labeled", "labels": 60}
    made = run(folder, "pretext", options, steps=1, loss=1.4, accuracy=0.3)
    accuracies = {"conv1": 0.4, "conv2": 0.55}
    made.save_results(
        {
            "labels": 60,
            "tested": 40,
            "best layer": "conv2",
            "best layer of an untrained network": "conv1",
            "probes": accuracies,
            "probes of an untrained network": dict.fromkeys(accuracies, 0.2),
        }
    )
    return made


MAKERS = {"finetune": finetune, "siamese-train": siamese, "cyclegan": cyclegan, "adapt": adapt, "pretext": pretext}
