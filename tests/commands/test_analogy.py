import json

import numpy as np
import pytest
from PIL import Image

from mlcli.methods.painting import image_analogies
from tests.cli import mlcli


def blots(size, seed):
    """Soft blots of color, (height, width, 3) of uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (size[0] // 6, size[1] // 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def luminance(pixels):
    return pixels.astype(float) @ (0.299, 0.587, 0.114)


def negative(pixels):
    """Luminance inverted, the colors unchanged."""
    return pixels + (255 - 2 * luminance(pixels))[..., None]


@pytest.fixture
def pair(tmp_path):
    """a.png, a2.png: its negative; b.png of another size."""
    a, b = blots((48, 48), 1) // 2 + 60, blots((40, 60), 2) // 2 + 60
    for name, pixels in {"a": a, "a2": negative(a).clip(0, 255).astype(np.uint8), "b": b}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def test_a_filter(pair):
    target = pair / "b2.png"
    arguments = ("analogy", pair / "a.png", pair / "a2.png", pair / "b.png", "-o", target)
    result = mlcli(*arguments)
    assert result.stdout == "" and "60 x 40 pixels" in result.stderr
    b, b2 = (np.asarray(Image.open(pair / f"{name}.png")).astype(float) for name in ("b", "b2"))
    error = np.abs(luminance(b2) - luminance(negative(b))).mean()
    assert error < 4 < 20 < np.abs(luminance(b2) - luminance(b)).mean()
    chroma = b - luminance(b)[..., None] - (b2 - luminance(b2)[..., None])
    assert np.abs(chroma[(b2.min(2) > 0) & (b2.max(2) < 255)]).max() < 2  # the colors of B
    record = json.loads((pair / "b2.png.json").read_text())
    assert record["command"] == "analogy" and record["color"] == "b" and 0 < record["distance"] < 0.1
    assert record["options"] == {
        "mode": "filter",
        "source_weight": 3.0,
        "match": "luminance",
        "color": "auto",
        "remap": "none",
        "kappa": 0.5,
        "levels": 5,
        "passes": 2,
        "size": None,
        "seed": 0,
    }
    assert list(record["images"]) == ["A", "A_PRIME", "B"] and len(record["images"]["B"]["sha256"]) == 64
    first = target.read_bytes()
    assert "--overwrite" in mlcli(*arguments, status=2).stderr
    mlcli(*arguments, "--overwrite", "--quiet")
    assert target.read_bytes() == first
    mlcli(*arguments, "--overwrite", "--kappa", 50, "--passes", 1)
    assert target.read_bytes() != first
    assert json.loads((pair / "b2.png.json").read_text())["options"]["kappa"] == 50


def test_gray_and_sepia(pair):
    gray = Image.open(pair / "a.png").convert("L")
    gray.save(pair / "gray.png")
    tone = np.asarray(gray)[..., None] * np.array([1.0, 0.8, 0.55])
    Image.fromarray(tone.astype(np.uint8)).save(pair / "sepia.png")
    mlcli("analogy", pair / "gray.png", pair / "sepia.png", pair / "b.png", "-o", pair / "out.png")
    b, out = (np.asarray(Image.open(pair / f"{name}.png")).astype(float) for name in ("b", "out"))
    expected = luminance(b)[..., None] * np.array([1.0, 0.8, 0.55])
    assert np.abs(out - expected).mean() < 4
    mlcli("analogy", pair / "a.png", pair / "a2.png", pair / "gray.png", "-o", pair / "plain.png")
    pixels = np.asarray(Image.open(pair / "plain.png")).astype(int)
    assert (pixels.max(2) - pixels.min(2)).max() == 0


@pytest.mark.parametrize("size, expected", [(None, (96, 96)), ("30", (30, 30)), ("40x25", (40, 25))])
def test_a_texture(pair, size, expected):
    arguments = ("analogy", pair / "a.png", "--mode", "texture-synthesis", "--passes", 1, "-o", pair / "out.png")
    mlcli(*arguments, *(() if size is None else ("--size", size)))
    texture, out = (np.asarray(Image.open(pair / f"{name}.png")) for name in ("a", "out"))
    assert out.shape == (*expected[::-1], 3)
    assert set(map(tuple, out.reshape(-1, 3))) <= set(map(tuple, texture.reshape(-1, 3)))


def test_transfer_and_numbers(pair):
    mlcli("analogy", pair / "a.png", pair / "b.png", "--mode", "texture-transfer", "-o", pair / "transfer.png")
    three = [pair / f"{name}.png" for name in ("a", "a2", "b")]
    mlcli("analogy", *three, "--mode", "texture-by-numbers", "-o", pair / "numbers.png")
    for name, texture in (("transfer", "a"), ("numbers", "a2")):
        out, texture = (np.asarray(Image.open(pair / f"{file}.png")).reshape(-1, 3) for file in (name, texture))
        assert len(out) == 40 * 60 and set(map(tuple, out)) <= set(map(tuple, texture))


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["a.png", "a2.png"], "takes 3 images, A A_PRIME B, not 2"),
        (["a.png", "--mode", "texture-transfer"], "takes 2 images, TEXTURE B, not 1"),
        (["a.png", "b.png", "--mode", "texture-synthesis"], "takes 1 image, TEXTURE, not 2"),
        (["a.png", "--mode", "texture-synthesis", "--remap", "a"], "--remap compares with A and B"),
        (["a.png", "--mode", "texture-synthesis", "--source-weight", "1"], "--source-weight compares"),
        (["a.png", "a2.png", "b.png", "--size", "64"], "as large as B"),
        (["a.png", "--mode", "texture-synthesis", "--size", "0x4"], "--size 0x4"),
        (["a.png", "--mode", "texture-synthesis", "--size", "big"], "--size big"),
        (["a.png", "--mode", "texture-synthesis", "--size", "99999x99999"], "limit"),
        (["a.png", "a2.png", "b.png", "--kappa", "-1"], "kappa"),
        (["a.png", "a2.png", "b.png", "--source-weight", "inf"], "source-weight"),
        (["a.png", "a2.png", "b.png", "-o", "out.gif"], "no format has this ending"),
    ],
)
def test_wrong_command_lines(pair, monkeypatch, arguments, text):
    monkeypatch.chdir(pair)
    assert text in mlcli("analogy", "-o", "out.png", *arguments, status=2, env={"COLUMNS": "200"}).stderr
    assert not list(pair.glob("out.*"))


def test_nothing_is_done_in_vain(pair, monkeypatch):
    monkeypatch.setattr(image_analogies, "create", None)
    three = [pair / f"{name}.png" for name in ("a", "a2", "b")]
    assert "cannot be written" in mlcli("analogy", *three, "-o", "/dev/null/b2.png", status=1).stderr
    large = (pair / "a.png", "--mode", "texture-synthesis", "--size", "20000x9", "-o", pair / "b2.webp")
    assert "WEBP holds at most" in mlcli("analogy", *large, status=2).stderr


@pytest.mark.parametrize(
    "names, text",
    [
        (("a.png", "b.png", "a.png"), "A is 48 x 48 pixels and A' 60 x 40: resize and align them"),
        (("a.png", "a2.png", "broken.png"), "broken.png: not an image"),
        (("none.png", "a2.png", "b.png"), "none.png: no such file"),
    ],
)
def test_images_that_will_not_do(pair, names, text):
    (pair / "broken.png").write_bytes(b"no image")
    result = mlcli("analogy", *(pair / name for name in names), "-o", pair / "out.png", status=1)
    assert text in result.stderr and not list(pair.glob("out.*"))
