import json

import numpy as np
import pytest
from PIL import Image

import mlcli
from mlcli.errors import UsageError
from tests.cli import mlcli as command_line


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)


def test_an_analogy_of_arrays_is_that_of_their_files(photo, tmp_path):
    a, a_prime, b = photo, 255 - photo, photo[::-1]
    for name, image in zip("abc", (a, a_prime, b), strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    done = []
    result = mlcli.analogy([a, Image.fromarray(a_prime), b], levels=2, passes=1, on_progress=done.append)
    assert result.output is None and done[-1].done == done[-1].total == 100
    target = tmp_path / "b-prime.png"
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    command_line("analogy", *paths, "-o", target, "--levels", 2, "--passes", 1)
    assert result.image.tobytes() == Image.open(target).tobytes()
    told = json.loads((tmp_path / "b-prime.png.json").read_text())
    assert told["distance"] == result.distance and told["options"] == result.as_json()["options"]


@pytest.mark.parametrize("options", [{"mode": "texture-transfer"}, {"size": 32}, {"kappa": -1}, {"match": "hue"}])
def test_what_does_not_go_together_is_said(photo, options):
    with pytest.raises(UsageError):
        mlcli.analogy([photo] * 3, **options)
