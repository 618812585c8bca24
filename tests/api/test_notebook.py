"""A notebook of the toolkit: cell after cell, each of which is what a command prints or writes."""

import json

import pytest
from PIL import Image

import mlcli
from mlcli.training.run_folder import Run
from tests import shapes
from tests.cli import mlcli as command
from tests.tiny import class_folders, identities

BRIEF = {"precision": "fp32", "save_every": 0}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The working folder: photographs in classes, people, and two domains."""
    folder = tmp_path_factory.mktemp("notebook")
    class_folders(folder / "photos", per_class=6)
    identities(folder / "people", "abcdefgh")
    shapes.write(folder / "source", 18)
    shapes.write(folder / "target", 18, 1, target=True)
    return folder


def printed(*words):
    return json.loads(command(*words, "--format", "json").stdout)


def test_train_and_resume_then_classify_with_the_run(here):
    run = mlcli.train(here / "photos", output=here / "run", val=0.2, epochs=2, batch_size=6, **BRIEF)
    again = mlcli.train(here / "photos", output=here / "run", resume=True)
    assert run.metrics == again.metrics and run.metrics["val_accuracy"] == Run(run.folder).metrics()[-1]["val_accuracy"]

    result = mlcli.classify([here / "photos"], model=str(run.folder), top_k=2)
    assert result.as_json() == printed("classify", here / "photos", "--model", run.folder, "--top-k", 2)

    measured = mlcli.classify(here / "photos", model=str(run.folder), evaluate=True)
    assert measured.as_json() == printed("classify", here / "photos", "--model", run.folder, "--evaluate")


def test_look_and_paint(here):
    cat = mlcli.maximize("logit:cat", model="cifarnet", steps=2, precision="fp32")
    command("maximize", "logit:cat", "--model", "cifarnet", "--steps", 2, "--precision", "fp32", "-o", here / "cat.png")
    assert cat.image.tobytes() == Image.open(here / "cat.png").tobytes()
    assert cat.as_json() == json.loads((here / "cat.png.json").read_text())

    brief = {"scales": "16", "steps": "2", "precision": "fp32"}
    (painted,) = mlcli.stylize(cat.image, style=here / "photos/blue/00.png", **brief).images
    words = ["--scales", "16", "--steps", "2", "--precision", "fp32"]
    cat.image.save(here / "content.png")
    style = here / "photos/blue/00.png"
    command("stylize", here / "content.png", "--style", style, *words, "-o", here / "painted.png")
    assert painted.image.tobytes() == Image.open(here / "painted.png").tobytes()


def test_tell_people_apart(here):
    sizes = {"steps": 4, "identities": 3, "images_per_identity": 2, "dimension": 4, "size": 16}
    run = mlcli.siamese_train(here / "people", output=here / "similarity", **sizes, **BRIEF)
    one, other = here / "people/a/00.png", here / "people/b/00.png"
    verdict = mlcli.siamese_verify(run.folder, [one, other])
    assert verdict.as_json() == printed("siamese-verify", run.folder, one, other)


def test_carry_a_model_to_another_domain(here):
    brief = {"method": "adda", "source_steps": 2, "steps": 2, "batch_size": 6, "candidates": 1}
    run = mlcli.adapt(here / "source", here / "target", output=here / "adapted", **brief, **BRIEF)
    words = ["--method", "adda", "--source-steps", 2, "--steps", 2, "--batch-size", 6, "--candidates", 1]
    words += ["--precision", "fp32", "-o", here / "by-command"]
    assert run.as_json() == printed("adapt", here / "source", here / "target", *words)
