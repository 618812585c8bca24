"""`mlcli translate` over a folder of odd files: names, sizes and depth kept, failures named, nothing done twice."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mlcli as mlcli_package
from mlcli.data.pairs import ImageSpec
from mlcli.models import translators
from mlcli.training import run_folder
from tests.cli import mlcli


def write_run(folder, *directions, source=None, target=None):
    torch.manual_seed(0)
    made = {
        direction: translators.create(
            "unet", source or ImageSpec(), target or ImageSpec(), (16, 16), filters=4, norm="instance"
        )
        for direction in directions
    }
    run = run_folder.Run(folder)
    translators.save(run, made, {direction: each.network for direction, each in made.items()})
    return folder


@pytest.fixture(scope="module")
def gray_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), "AtoB", source=ImageSpec(1), target=ImageSpec(1))


@pytest.fixture
def photos(tmp_path):
    root, random = tmp_path / "photos", np.random.default_rng(0)

    def save(name, *shape, kind=np.uint8):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, np.iinfo(kind).max, shape).astype(kind)).save(root / name)

    save("odd.png", 23, 41, 3)
    save("inside/gray.jpg", 16, 16)
    save("deep.png", 20, 30, kind=np.uint16)
    save("deep.tif", 20, 30, kind=np.uint16)
    save("tiny.png", 1, 2, 3)
    save("huge.png", 90, 300, 3)
    save("old.bmp", 16, 16, 3)
    (root / "broken.png").write_bytes(b"no image")
    return root


def test_names_sizes_and_depths_are_kept_and_nothing_is_done_twice(gray_run, photos, tmp_path):
    out = tmp_path / "out"
    said = mlcli("translate", gray_run, photos, "-o", out, "--tile", 64, status=1).stderr
    assert "broken.png" in said and "7 translated" in said
    names = {str(file.relative_to(out)) for file in out.rglob("*") if file.suffix != ".json" and file.is_file()}
    assert names == {"odd.png", "inside/gray.jpg", "deep.png", "deep.tif", "tiny.png", "huge.png", "old.png"}
    for name in names:
        given = photos / name.replace("old.png", "old.bmp")
        with Image.open(out / name) as made, Image.open(given) as image:
            assert made.size == image.size, name
            assert made.mode.startswith("I;16") == name.startswith("deep"), name
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    (photos / "broken.png").unlink()
    assert "0 translated, 7 up to date" in mlcli("translate", gray_run, photos, "-o", out, "--tile", 64).stderr
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before


def test_what_is_newer_is_done_again_and_what_was_broken_off_goes_on(gray_run, photos, tmp_path):
    (photos / "broken.png").unlink()
    out = tmp_path / "out"
    mlcli("translate", gray_run, photos, "-o", out)
    (out / "odd.png").unlink()
    shutil.copyfile(photos / "odd.png", photos / "tiny.png")
    assert "2 translated, 5 up to date" in mlcli("translate", gray_run, photos, "-o", out).stderr
    with Image.open(out / "tiny.png") as made:
        assert made.size == (41, 23)
    assert "tile 1024" in mlcli("translate", gray_run, photos, "-o", out, "--tile", 64, status=2).stderr
    assert "7 translated" in mlcli("translate", gray_run, photos, "-o", out, "--tile", 64, "--overwrite").stderr


def test_the_direction_is_asked_for_and_chooses_the_generator(photos, tmp_path):
    (photos / "broken.png").unlink()
    run = write_run(tmp_path / "run", "AtoB", "BtoA")
    assert "--direction AtoB or BtoA" in mlcli("translate", run, photos, "-o", tmp_path / "out", status=2).stderr
    made = []
    for direction in ("AtoB", "BtoA"):
        mlcli(
            "translate",
            run,
            photos / "odd.png",
            "-o",
            tmp_path / direction,
            "--direction",
            direction,
            "--precision",
            "fp32",
        )
        made.append(np.asarray(Image.open(tmp_path / direction / "odd.png")).astype(float))
        translator = translators.load(run, direction)
        image = torch.from_numpy(np.array(Image.open(photos / "odd.png"))).permute(2, 0, 1)[None]
        from mlcli.methods.generation.tiled_inference import translate
        from mlcli.runtime.device import Runtime

        expected = translate(translator, image, Runtime(torch.device("cpu"), "fp32"))[0].permute(1, 2, 0).numpy()
        assert np.abs(made[-1] - expected * 255).max() <= 0.51
    assert np.abs(made[0] - made[1]).mean() > 0.5


def test_the_record_tells_the_run(gray_run, photos, tmp_path):
    mlcli("translate", gray_run, photos / "odd.png", "-o", tmp_path / "out")
    record = json.loads((tmp_path / "out/translate.json").read_text())
    assert record["run"] == str(gray_run / "model.safetensors") and len(record["sha256"]) == 64


def test_images_are_never_replaced_by_their_results(gray_run, photos):
    before = {file: file.read_bytes() for file in photos.rglob("*.png")}
    mlcli("translate", gray_run, photos, "-o", photos, status=2)
    result = mlcli("translate", gray_run, photos, "-o", photos, "--overwrite", status=1)
    assert "would replace it" in result.stderr or "no images there" in result.stderr
    for file, content in before.items():
        assert file.read_bytes() == content


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["absent", "photos", "-o", "out"], "absent"),
        (["run", "photos"], "-o OUTPUT"),
        (["run", "-o", "out"], "give IMAGES"),
        (["run", "nothing", "-o", "out", "--direction", "AtoC"], "'AtoC' is not one of"),
        (["run", "photos", "-o", "out", "--direction", "BtoA"], "translates AtoB, not BtoA"),
    ],
)
def test_mistakes_are_said(arguments, message, photos, gray_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(gray_run, tmp_path / "run")
    result = mlcli("translate", *arguments, status=1 if arguments[0] == "absent" else 2)
    assert message in result.stderr and not (tmp_path / "out").exists()


def test_a_classifier_is_no_translator(photos, tmp_path):
    embedded = Path(mlcli_package.__file__).parent / "weights/cifarnet.safetensors"
    assert "holds a classifier" in mlcli("translate", embedded, photos, "-o", tmp_path / "out", status=1).stderr


def test_onnx(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "CI", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    run, file = write_run(tmp_path / "run", "AtoB"), tmp_path / "generator.onnx"
    said = mlcli("translate", run, "--onnx", file).stderr
    assert "differs from the generator's by at most" in said and file.stat().st_size > 10_000
    assert "exists already" in mlcli("translate", run, "--onnx", file, status=2).stderr
    assert not list(home.rglob("*")), "ONNX Runtime keeps what it would send to its maker"


def test_onnx_says_what_is_missing(tmp_path, monkeypatch):
    from mlcli.runtime import optional_packages

    monkeypatch.setattr(optional_packages, "EXTRAS", {"onnx": ("no_such_package",)})
    run, file = write_run(tmp_path / "run", "AtoB"), tmp_path / "generator.onnx"
    assert "pip install no_such_package" in mlcli("translate", run, "--onnx", file, status=2).stderr
    assert not file.exists()


@pytest.fixture
def few(photos):
    """Two files that can be read, and nothing else."""
    return [photos / "odd.png", photos / "inside" / "gray.jpg"]


def test_one_image_into_a_file(gray_run, few, tmp_path):
    target = tmp_path / "new" / "b.png"
    said = mlcli("translate", gray_run, few[0], "-o", target).stderr
    assert "1 translated" in said and "translate: 1 image read" in said
    with Image.open(target) as made:
        assert made.size == (41, 23)
    record = json.loads((tmp_path / "new" / "b.png.json").read_text())
    assert record["command"] == "translate" and record["options"]["image"] == str(few[0]) and record["sha256"]
    assert sorted(path.name for path in target.parent.iterdir()) == ["b.png", "b.png.json"]
    assert "exists already" in mlcli("translate", gray_run, few[0], "-o", target, status=2).stderr
    mlcli("translate", gray_run, few[1], "-o", target, "--overwrite")
    with Image.open(target) as made:
        assert made.size == (16, 16)
    # the same as in a folder
    mlcli("translate", gray_run, few[1], "-o", tmp_path / "out")
    mlcli("translate", gray_run, few[1], "-o", tmp_path / "alone.jpg")
    assert (tmp_path / "alone.jpg").read_bytes() == (tmp_path / "out" / "gray.jpg").read_bytes()


def test_a_trailing_slash_means_a_folder(gray_run, few, tmp_path):
    mlcli("translate", gray_run, few[0], "-o", f"{tmp_path / 'b.png'}/")
    assert (tmp_path / "b.png" / "odd.png").is_file()
    mlcli("translate", gray_run, few[1], "-o", tmp_path / "b.png")  # it is a folder now
    assert (tmp_path / "b.png" / "gray.jpg").is_file()


def test_several_images_take_no_file(gray_run, few, photos, tmp_path):
    for given in (few, [photos / "inside"]):
        said = mlcli("translate", gray_run, *given, "-o", tmp_path / "b.png", status=2).stderr
        assert "b.png/ is a folder" in said and not (tmp_path / "b.png").exists()
    said = mlcli("translate", gray_run, few[0], "-o", few[0], "--overwrite", status=1).stderr
    assert "would replace it" in said
    assert "is a folder; give the name of a file" in mlcli(
        "translate", gray_run, "--onnx", f"{tmp_path}/x.onnx/", status=2
    ).stderr.replace("\n", " ").replace("│", "").replace("  ", " ")


def test_images_dated_in_the_future_are_translated_once(gray_run, few, tmp_path):
    for path in few:
        os.utime(path, (4_000_000_000, 4_000_000_000))
    assert "2 translated" in mlcli("translate", gray_run, *few, "-o", tmp_path / "out").stderr
    assert "0 translated, 2 up to date" in mlcli("translate", gray_run, *few, "-o", tmp_path / "out").stderr


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_transparency_and_metadata_stay(tmp_path, gray_run, ending):
    about = Image.Exif()
    about[274], about[315] = 3, "Somebody"
    clear = Image.new("RGBA", (24, 20), (200, 90, 30, 0))
    clear.paste((10, 90, 200, 255), (0, 0, 24, 8))
    (tmp_path / "in").mkdir()
    clear.save(tmp_path / f"in/clear.{ending}", exif=about.tobytes(), dpi=(300, 300))
    mlcli("translate", gray_run, tmp_path / "in", "-o", tmp_path / "out")
    with Image.open(tmp_path / f"out/clear.{ending}") as made:
        assert made.mode == "LA" and made.getexif()[315] == "Somebody" and made.getexif().get(274, 1) == 1
        assert made.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        opacity = np.asarray(made)[..., 1]
    assert opacity[:12].max() == 0 and opacity[12:].min() == 255  # rotated with the pixels


def test_maps_of_classes_have_no_transparency_of_their_images(tmp_path):
    run = write_run(tmp_path / "run", "AtoB", target=ImageSpec(labels=5))
    Image.new("RGBA", (24, 20), (200, 90, 30, 100)).save(tmp_path / "clear.png")
    mlcli("translate", run, tmp_path / "clear.png", "-o", tmp_path / "out")
    with Image.open(tmp_path / "out/clear.png") as made:
        assert made.mode == "L" and np.asarray(made).max() < 5
