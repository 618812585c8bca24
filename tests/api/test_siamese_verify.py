"""`mlcli.siamese_verify` as a notebook uses it."""

import json
import shutil

import numpy
import pytest
import torch
from PIL import Image

import mlcli
from mlcli.errors import DataError, UsageError, WeightsError
from tests.cli import mlcli as command
from tests.tiny import identities


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A run that tells patterns apart."""
    data = identities(tmp_path_factory.mktemp("data"), "abcdefgh")
    options = {"steps": 40, "identities": 6, "images_per_identity": 3, "dimension": 8, "size": 16, "precision": "fp32"}
    return mlcli.siamese_train(data, output=tmp_path_factory.mktemp("runs") / "run", **options).folder


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    return identities(tmp_path_factory.mktemp("unseen"), [f"{g}/{n}" for g in "xy" for n in "klm"], seed=9)


def printed(*words):
    return json.loads(command("siamese-verify", *words, "--format", "json").stdout)


def test_two_images_from_files_or_from_memory(network, unseen):
    one, other = unseen / "x/k/00.png", unseen / "x/l/03.png"
    (pair,) = mlcli.siamese_verify(network, [one, other]).pairs
    assert pair.verdict.same == (pair.verdict.distance <= pair.verdict.threshold) and 0 < pair.verdict.probability < 1
    assert mlcli.siamese_verify(network, [one, other]).as_json() == pair.as_json() == printed(network, one, other)

    pixels = numpy.asarray(Image.open(one))
    for a in (Image.open(one), pixels, torch.from_numpy(pixels.copy())[None]):
        (again,) = mlcli.siamese_verify(network, [a, str(other)]).pairs
        assert again.verdict == pair.verdict
    assert again.a == "image 0" and again.b == str(other)
    (itself,) = mlcli.siamese_verify(network, [pixels, pixels], threshold=0.5).pairs
    assert itself.verdict.same and itself.verdict.distance < 1e-6 and itself.verdict.threshold == 0.5


def test_what_cannot_be_read_has_an_error(network, unseen, tmp_path):
    (tmp_path / "pairs.csv").write_text(f"{unseen}/x/k/00.png,{unseen}/x/k/01.png\n{unseen}/x/k/00.png,absent.png\n")
    result = mlcli.siamese_verify(network, tmp_path / "pairs.csv")
    assert [pair.verdict is None for pair in result.pairs] == [False, True] and result.failures == 1
    assert "absent.png" in result.pairs[1].error and len(result.as_json()) == 2


def test_who_of_a_gallery_it_is(network, unseen):
    query, seen = Image.open(unseen / "x/k/02.png"), []
    result = mlcli.siamese_verify(network, query, gallery=unseen / "x", k=2, on_progress=seen.append)
    (found,) = result.identifications
    assert found.nearest[0].identity == "k" and len(found.nearest) == 2 and found.error == ""
    assert found.identity == ("k" if found.nearest[0].distance <= found.threshold else None)
    assert {step.title: step.done for step in seen} == {"gallery": 18, "queries": 1}

    inside = unseen / "x/k/02.png"  # a file of the gallery is compared with the others there
    result = mlcli.siamese_verify(network, [inside], gallery=unseen / "x", k=2)
    assert result.identifications[0].nearest[0].distance > found.nearest[0].distance
    assert result.as_json() == printed(network, inside, "--gallery", unseen / "x", "-k", 2)


def test_error_rates_on_other_identities(network, unseen):
    result = mlcli.siamese_verify(network, evaluate=unseen, way=3, trials=10)
    low, high = result.evaluation["eer_interval"]
    assert low <= result.evaluation["eer"] <= high and result.evaluation["one_shot"]["way"] == 3
    assert result.as_json() == printed(network, "--evaluate", unseen, "--way", 3, "--trials", 10)


def test_mistakes_are_errors(network, unseen, colors, tmp_path):
    image = unseen / "x/k/00.png"
    with pytest.raises(UsageError, match="give two images"):
        mlcli.siamese_verify(network, image)
    with pytest.raises(UsageError, match="leave out the images"):
        mlcli.siamese_verify(network, [image, image], evaluate=unseen)
    with pytest.raises(UsageError, match="way 1: take a number at least 2"):
        mlcli.siamese_verify(network, evaluate=unseen, way=1)
    with pytest.raises(UsageError, match="image 1: a tensor of shape"):
        mlcli.siamese_verify(network, [image, torch.zeros(5)])
    shutil.copytree(unseen / "x/k", tmp_path / "one/k")
    with pytest.raises(DataError, match="images of 1 identity"):
        mlcli.siamese_verify(network, evaluate=tmp_path / "one")
    with pytest.raises(WeightsError, match="not a Siamese network"):
        mlcli.siamese_verify(colors, [image, image])
