"""Reading and writing images: odd and bad files, round trips."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.imaging import image_io
from tests import odd_images
from tests.powerless import permissions_hold

# `read` installs a filter for Pillow's warnings, which pytest replaces; test_nothing_reaches_stderr has it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    return folder, *odd_images.make(folder)


def test_every_good_file_gives_its_pixels(odd):
    folder, good, bad = odd
    assert len(good) >= 60 and len(bad) >= 30
    wrong = {}
    for name, expected in good.items():
        got = image_io.to_unit(image_io.read(folder / name))
        if got.shape != expected.shape:
            wrong[name] = (tuple(got.shape), tuple(expected.shape))
        elif (error := (got - expected).abs().max().item()) > odd_images.tolerance(name):
            wrong[name] = f"off by {error * 255:.1f} levels"
    assert not wrong


def test_depth_decides_the_dtype(odd):
    folder, good, _ = odd
    deep = {name for name in good if image_io.read(folder / name).dtype == torch.float32}
    named = {name for name in good if name.startswith(("deep", "float", "integers", "twelve", "icc_deep"))}
    assert deep == (named | {"key_deep.png"}) - {"deep_rgb.png", "deep_gray_alpha.png"}
    for name in good:
        pixels = image_io.read(folder / name)
        assert pixels.dtype in (torch.uint8, torch.float32) and pixels.is_contiguous()


def test_every_bad_file_is_an_image_error_that_names_it(odd):
    folder, _, bad = odd
    for name in sorted(bad):
        with pytest.raises(ImageError) as caught:
            image_io.read(folder / name)
        message = str(caught.value)
        assert message.startswith(f"{folder / name}: ") and len(message) > len(f"{folder / name}: ") + 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.jpg", "empty file"),
        ("text.jpg", "not an image"),
        ("cut_rgb.jpg", "broken or cut off .*; replace the file, or take what can be decoded with --accept-truncated"),
        ("nan.tif", "not finite"),
        ("bomb.png", "limit of 200,000,000"),
        ("bomb.ppm", "limit of 200,000,000"),
        ("postscript.png", "EPS"),
        ("leads_nowhere.jpg", "no such file"),
    ],
)
def test_messages_say_what_is_wrong(odd, name, words):
    with pytest.raises(ImageError, match=words):
        image_io.read(odd[0] / name)


def test_what_is_no_file(tmp_path):
    for path, words in [(tmp_path, "folder"), (tmp_path / "none.png", "no such"), ("/dev/zero", "device")]:
        with pytest.raises(ImageError, match=words):
            image_io.read(path)
    with pytest.raises(ImageError):
        image_io.read("nul\0inside.png")
    with pytest.raises(ImageError, match=r"rel/none\.png"):
        image_io.read("rel/none.png")


def test_permission(tmp_path):
    path = tmp_path / "closed.png"
    Image.fromarray(odd_images.RGB).save(path)
    path.chmod(0)
    with permissions_hold(), pytest.raises(ImageError, match="may not be read"):
        image_io.read(path)


@pytest.mark.parametrize(
    "enough, size",
    [(0, (640, 480)), (481, (640, 480)), (240, (320, 240)), (200, (320, 240)), (120, (160, 120)), (10, (80, 60))],
)
def test_of_a_large_jpeg_as_much_is_decoded_as_is_enough(tmp_path, enough, size):
    ramp = np.linspace(0, 255, 640)[None, :, None] * np.linspace(0.2, 1, 480)[:, None, None] * [1, 0.6, 0.3]
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    image = image_io.read(tmp_path / "a.jpg", enough=enough)
    assert tuple(image.shape) == (3, *size[::-1])
    whole = image_io.fill(image_io.read(tmp_path / "a.jpg"), size[::-1])
    assert (image.float() - whole.float()).abs().mean() < 1
    # Upright, gray, and of a format without coefficients
    turned = Image.open(tmp_path / "a.jpg").convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert tuple(image_io.read(tmp_path / "turned.jpg", enough=enough).shape) == (3, *size)
    turned.save(tmp_path / "a.png")
    assert image_io.read(tmp_path / "a.png", enough=enough).shape == (3, 480, 640)


def test_a_pipe_can_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = (Path(__file__).parents[2] / "samples/photos/cat.jpg").read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data))
    writer.start()
    assert image_io.read(tmp_path / "pipe").shape == (3, 300, 451)
    writer.join()


def test_limit_on_pixels_is_a_limit_in_both_directions(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (40, 30)).save(path)
    assert image_io.read(path, max_pixels=1200).shape == (3, 30, 40)
    with pytest.raises(ImageError, match="40 x 30 pixels are more than the limit of 1,199"):
        image_io.read(path, max_pixels=1199)
    # Pillow's own limit, if lower, does not get in the way.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert image_io.read(path, max_pixels=1200).shape == (3, 30, 40)


def test_bombs_are_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (40, 30)).save(path)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError):
        image_io.read(path, max_pixels=100)


def test_nothing_reaches_stderr(odd):
    code = (
        "import sys; from pathlib import Path\n"
        "from mlcli.imaging import image_io; from mlcli.errors import ImageError\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: image_io.read(path)\n"
        "    except ImageError: pass\n"
        "print('end')"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, odd[0]], capture_output=True, text=True, cwd=root)
    assert (done.stdout, done.stderr) == ("end\n", "")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_give_a_tensor_or_an_image_error(odd, tmp_path, seed):
    folder, good, _ = odd
    random = np.random.default_rng(seed)
    names = sorted(name for name in good if len(name) < 40)
    outcomes = {"tensor": 0, "error": 0}
    for name in random.choice(names, 120):
        data = bytearray((folder / name).read_bytes())
        for at in random.integers(0, min(len(data), random.choice([64, 10**6])), random.integers(1, 8)):
            data[at] = random.integers(256)
        if random.random() < 0.3:
            data = data[: random.integers(len(data))]
        path = tmp_path / f"damaged{Path(name).suffix}"
        path.write_bytes(data)
        try:
            pixels = image_io.read(path, max_pixels=1_000_000)
        except ImageError as error:
            outcomes["error"] += 1
            assert str(path) in str(error)
            continue
        outcomes["tensor"] += 1
        assert pixels.ndim == 3 and pixels.shape[0] == 3
        if pixels.is_floating_point():
            assert pixels.min() >= 0 and pixels.max() <= 1
    assert min(outcomes.values()) > 10  # both happen, else the damage is too light or too heavy


def test_no_cut_goes_unnoticed(odd, tmp_path):
    """A file cut anywhere is an error, unless all its pixels are there."""
    folder, good, _ = odd
    for name in sorted(name for name in good if len(name) < 40):
        data = (folder / name).read_bytes()
        path = tmp_path / f"cut{Path(name).suffix}"
        for eighths in range(1, 8):
            path.write_bytes(data[: len(data) * eighths // 8])
            try:
                got = image_io.to_unit(image_io.read(path))
            except ImageError:
                continue
            assert (got - good[name]).abs().max() <= odd_images.tolerance(name), (name, eighths)


def test_threads_read_the_same_pixels(odd):
    folder, good, _ = odd
    names = sorted(good)
    alone = [image_io.read(folder / name) for name in names]
    results = [None, None, None]

    def work(slot):
        results[slot] = [image_io.read(folder / name) for name in names]

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        assert all(torch.equal(a, b) for a, b in zip(alone, result, strict=True))


def test_fit():
    wide = torch.zeros(3, 40, 100, dtype=torch.uint8)
    wide[:, :, 30:70] = 255  # just the central square
    assert torch.equal(image_io.fit(wide, 20), torch.full((3, 20, 20), 255, dtype=torch.uint8))
    assert torch.equal(image_io.fit(wide.mT.contiguous(), 40), torch.full((3, 40, 40), 255, dtype=torch.uint8))
    assert image_io.fit(wide.float(), 7).dtype == torch.float32
    assert image_io.fit(torch.zeros(1, 1, 10000), 224).shape == (1, 224, 224)
    # antialiased: of lines between the sampling points an eighth of the light remains
    lines = ((torch.arange(64) % 8 == 0) * 255).to(torch.uint8).expand(3, 64, -1)
    assert 20 < image_io.fit(lines, 8)[:, :, 1:].float().mean() < 44


def test_fill_takes_the_middle_of_the_ratio_asked_for():
    image = torch.zeros(1, 40, 100)
    image[:, :, 20:80] = 1
    assert torch.equal(image_io.fill(image, (20, 30)), torch.ones(1, 20, 30))  # 40 x 60 of it
    assert torch.equal(image_io.fill(image.mT, (90, 60)), torch.ones(1, 90, 60))
    assert torch.equal(image_io.fill(image, (40, 60)), image[:, :, 20:80])
    assert image_io.fill(torch.zeros(1, 1, 10000), (9, 300)).shape == (1, 9, 300)


def test_maps_of_classes_go_to_a_palette_and_back(tmp_path):
    numbers = torch.tensor([[0, 2, 1], [2, 2, 0]], dtype=torch.uint8)
    colors = torch.tensor([[10, 20, 30], [40, 50, 60], [200, 210, 220]], dtype=torch.uint8)
    for name in ("map.png", "map.tif"):
        image_io.write(image_io.with_palette(numbers, colors), tmp_path / name)
        assert torch.equal(image_io.read_labels(tmp_path / name), numbers[None])
        assert torch.equal(image_io.read(tmp_path / name), colors[numbers.long()].permute(2, 0, 1))
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "color.png")
    for name, words in [("color.png", "of mode RGB, not a map"), ("none.png", "no such file")]:
        with pytest.raises(ImageError, match=words):
            image_io.read_labels(tmp_path / name)


def test_gray_is_luma():
    colors = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]], dtype=torch.uint8)
    got = image_io.to_gray(colors.T.reshape(3, 1, 4))
    assert got.flatten().tolist() == [76, 150, 29, 77] and got.dtype == torch.uint8
    assert torch.allclose(image_io.to_gray(torch.ones(2, 3, 4, 4)), torch.ones(2, 1, 4, 4))


# ----------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(("ending", "most"), [("png", 0), ("tif", 0), ("TIFF", 0), ("jpg", 6), ("webp", 30)])
def test_write_and_read_back(tmp_path, ending, most):
    pixels = torch.from_numpy(odd_images.RGB.transpose(2, 0, 1).copy())
    path = tmp_path / "new" / f"a.{ending}"
    image_io.write(pixels, path)
    got = image_io.read(path)
    assert got.dtype == torch.uint8 and (got.int() - pixels.int()).abs().float().quantile(0.95) <= most
    again = path.read_bytes()
    image_io.write(pixels / 255, path)  # floats round to the nearest level, and the bytes are the same
    assert path.read_bytes() == again
    assert [child.name for child in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        kinds = {"png": "PNG", "tif": "TIFF", "tiff": "TIFF", "jpg": "JPEG", "webp": "WEBP"}
        assert image.format == kinds[ending.lower()]


def test_write_clamps_rounds_and_takes_every_shape(tmp_path):
    path = tmp_path / "a.png"
    image_io.write(torch.tensor([[-1.0, 0.4999 / 255, 0.5001 / 255, 2.0]]), path)
    assert image_io.read(path)[0].tolist() == [[0, 0, 1, 255]]
    for shape in [(1, 4, 5), (4, 5), (3, 4, 5)]:
        image_io.write(torch.rand(shape).half().requires_grad_(), path)
        assert image_io.read(path).shape == (3, 4, 5)
    for shape in [(2, 4, 5), (5,), (1, 3, 4, 5), (3, 0, 5)]:
        with pytest.raises(ValueError, match="shape"):
            image_io.write(torch.rand(shape), path)
    image_io.write(Image.new("RGBA", (5, 4), (255, 0, 0, 0)), tmp_path / "a.jpg")
    assert (image_io.read(tmp_path / "a.jpg") >= 254).all()


def test_sixteen_bits(tmp_path):
    deep = torch.arange(65536).reshape(256, 256) / 65535
    for name in ("a.png", "a.tif"):
        image_io.write(deep, tmp_path / name, bits=16)
        got = image_io.read(tmp_path / name)
        assert got.dtype == torch.float32 and torch.allclose(got[0], deep, atol=1e-7)
    for image, name, bits in [(deep, "a.jpg", 16), (torch.rand(3, 4, 4), "b.png", 16), (deep, "b.tif", 12)]:
        with pytest.raises(UsageError, match="16 bits fit gray PNG and TIFF"):
            image_io.write(image, tmp_path / name, bits=bits)


def test_what_cannot_be_written_leaves_the_old_image(tmp_path):
    for name in ("a.gif", "a", "a.png.bak"):
        with pytest.raises(UsageError, match="PNG .*JPEG .*WebP .*TIFF"):
            image_io.write(torch.rand(3, 4, 4), tmp_path / name)
    for name, image in {
        "a.png": torch.full((3, 4, 4), torch.nan),
        "a.webp": torch.zeros(1, 1, 20000, dtype=torch.uint8),
        "a.jpg": torch.zeros(1, 1, 70000, dtype=torch.uint8),
    }.items():
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(MlcliError):
            image_io.write(image, tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name, side", [("a.jpg", 65_500), ("a.webp", 16_383)])
def test_room_is_what_the_format_holds(tmp_path, name, side):
    image_io.require_room(tmp_path / name, side, 1)
    image_io.write(torch.zeros(3, 1, side), tmp_path / name)
    with pytest.raises(UsageError, match=f"{name}: the image would be of {side + 1} x 1 pixels; .* at most"):
        image_io.require_room(tmp_path / name, 1, side + 1)
    with pytest.raises(MlcliError, match="cannot hold"):
        image_io.write(torch.zeros(3, 1, side + 1), tmp_path / name)


def test_room_is_what_can_be_read_again():
    image_io.require_room("a.png", 10_000, 20_000)
    with pytest.raises(UsageError, match="more than the limit"):
        image_io.require_room("a.png", 10_000, 20_001)


def test_a_stack_of_images_of_8_and_of_16_bits():
    flat, deep = torch.full((3, 2, 2), 51, dtype=torch.uint8), torch.full((3, 2, 2), 0.2)
    assert torch.equal(image_io.stack([flat, flat]), torch.stack([flat, flat]))
    both = image_io.stack([flat, deep])
    assert both.dtype == torch.float32 and torch.equal(both[0], both[1])
