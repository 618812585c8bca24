import json
import os
import resource
import signal

import numpy as np
import pytest
from PIL import Image

from mlcli.methods.painting import style_transfer
from tests.cli import mlcli

QUICK = ("--scales", "16,24", "--steps", "3,2", "--quiet")


def save(path, seed=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def files(tmp_path):
    return save(tmp_path / "content.png"), save(tmp_path / "style.png", 1, (32, 32))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def test_one_image_and_what_reproduces_it(files, tmp_path):
    content, style = files
    target = tmp_path / "new" / "out.png"
    arguments = ("stylize", content, "--style", style, "--style", content, "-o", target, "--scales", "16,24")
    arguments += ("--steps", "3,2", "--style-weight", 1, "--style-weight", 3, "--style-layer", "conv1=2")
    arguments += ("--style-layer", "conv3", "--init", "noise", "--snapshot-every", 2)
    result = mlcli(*arguments)
    assert result.stdout == "" and "24 x 18, 5 steps" in result.stderr
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "out-00002.png",
        "out-00004.png",
        "out.png",
        "out.png.json",
    ]
    assert Image.open(target).size == (24, 18) and Image.open(target.with_name("out-00002.png")).size == (16, 12)
    record = json.loads((tmp_path / "new" / "out.png.json").read_text())
    assert record["command"] == "stylize" and record["size"] == [24, 18]
    options = record["options"]
    assert options["style_weight"] == [1, 3] and options["style"] == [str(style), str(content)]
    assert options["style_layers"] == [["conv1", 2.0], ["conv3", 1.0]] and options["content_layers"] == [["conv4", 1.0]]
    assert options["scales"] == [16, 24] and options["steps"] == [3, 2] and options["init"] == "noise"
    first = target.read_bytes()
    assert "--overwrite" in mlcli(*arguments, status=2).stderr
    mlcli(*arguments, "--overwrite")
    assert target.read_bytes() == first


def test_a_folder_where_make_can_call_again(files, tmp_path):
    _, style = files
    folder, out = tmp_path / "contents", tmp_path / "out"
    for name, seed in (("a.png", 1), ("sub/b.jpg", 2), ("c.gif", 3)):
        save(folder / name, seed)
    (folder / "bad.png").write_bytes(b"no image")
    save(folder / "thin.png", 4, (600, 1))
    arguments = ("stylize", folder, "--style", style, "-o", out, *QUICK)
    result = mlcli(*arguments, status=1)
    complaints = result.stderr.splitlines()
    assert len(complaints) == 2 and "bad.png" in complaints[0] and "thin.png" in complaints[1]
    assert "too small" in complaints[1]
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert made == ["a.png", "a.png.json", "c.gif.png", "c.gif.png.json", "sub/b.jpg", "sub/b.jpg.json"]

    for name in ("bad.png", "thin.png"):
        (folder / name).unlink()
    for path in [*folder.rglob("*.*"), style]:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    mlcli(*arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*")} == times
    os.utime(folder / "a.png")
    os.utime(out / "a.png", (1_100_000_000, 1_100_000_000))
    mlcli(*arguments)
    redone = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert redone == {"a.png", "a.png.json"}

    # What this command did not make is not replaced
    (out / "a.png.json").unlink()
    os.utime(out / "a.png", (1_100_000_000, 1_100_000_000))
    assert "--overwrite" in mlcli(*arguments, status=1).stderr


def test_a_mask_confines_a_style(files, tmp_path):
    _, style = files
    content = save(tmp_path / "big.png", 5, (128, 32))
    mask = np.zeros((8, 32), np.uint8)
    mask[:, 16:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    target = tmp_path / "out.png"
    arguments = ("--scales", 128, "--steps", 8, "--alpha", 0, "--tv", 0, "--style-layer", "conv3", "-q")
    mlcli("stylize", content, "--style", style, "--mask", tmp_path / "mask.png", "-o", target, *arguments)
    apart = np.abs(pixels(target) - pixels(content)).mean((0, 2))
    assert apart[:40].max() < 1 and apart[70:].mean() > 5


def test_colors_are_kept(files, tmp_path):
    content, style = files
    Image.fromarray(np.full((30, 40, 3), (170, 120, 90), np.uint8)).save(content)
    target = tmp_path / "out.png"
    mlcli("stylize", content, "--style", style, "-o", target, "--keep-colors", "--alpha", 0, *QUICK)
    red, green, blue = pixels(target).transpose(2, 0, 1)
    assert red.std() > 1
    inside = (red < 255) & (blue > 0)
    assert inside.mean() > 0.8
    assert np.abs(red - green - 50)[inside].max() <= 1 and np.abs(green - blue - 30)[inside].max() <= 1


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_keeps_what_there_is_and_goes_on(files, tmp_path, monkeypatch, number, status):
    content, style = files
    whole, target = tmp_path / "whole.png", tmp_path / "out.png"
    state = tmp_path / "out.png.state"
    arguments = ("stylize", content, "--style", style, *QUICK)
    mlcli(*arguments, "-o", whole)
    step = style_transfer.Stylization._step

    def interrupted(self, objective):
        if self.scale == 1 and not state.exists():
            os.kill(os.getpid(), number)
        return step(self, objective)

    monkeypatch.setattr(style_transfer.Stylization, "_step", interrupted)
    stopped = mlcli(*arguments, "-o", target, status=status)
    assert "interrupted after step 4 of 5" in stopped.stderr and "--resume" in stopped.stderr
    assert Image.open(target).size == (24, 18) and state.exists()
    assert "--resume" in mlcli(*arguments, "-o", target, status=2).stderr
    other = mlcli(*arguments, "-o", target, "--resume", "--alpha", 0.7, status=1)
    assert "started with other alpha" in other.stderr
    mlcli(*arguments, "-o", target, "--resume")
    assert target.read_bytes() == whole.read_bytes() and not state.exists()
    before = target.stat().st_mtime_ns
    assert "done already" in mlcli(*arguments[:-1], "-o", target, "--resume").stderr
    assert target.stat().st_mtime_ns == before


def killed(*_, **__):
    raise SystemExit(137)


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_killed_between_an_image_and_its_record_it_is_not_taken_for_finished(
    files, tmp_path, monkeypatch, in_folder, before
):
    content, style = files
    out = tmp_path / "out" / "content.png"
    command = ("stylize", content, "--style", style, "-o", out.parent if in_folder else out, *QUICK)
    out.parent.mkdir()
    if before:  # of an earlier painting, which is to be replaced
        save(out, 7)
        out.with_name("content.png.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr("mlcli.api.paintings.told_of", killed)
        mlcli(*command, *(["--overwrite"] if before else []), status=137)
    assert Image.open(out).size == (24, 18)
    if not in_folder:
        assert "--resume" in mlcli(*command, status=2).stderr
    mlcli(*command, *([] if in_folder else ["--resume"]))
    assert json.loads(out.with_name("content.png.json").read_text())["command"] == "stylize"
    assert sorted(os.listdir(out.parent)) == ["content.png", "content.png.json"]


def test_an_image_without_a_record_is_no_finished_painting(files, tmp_path):
    content, style = files
    out = save(tmp_path / "out" / "content.png", 7)
    before = out.read_bytes()
    for command in (["-o", out.parent], ["-o", out, "--resume"]):
        told = mlcli("stylize", content, "--style", style, *command, *QUICK, status=1 if len(command) == 2 else 2)
        assert f"{out}: exists" in told.stderr and "--overwrite" in told.stderr and out.read_bytes() == before


def test_a_damaged_state(files, tmp_path):
    content, style = files
    (tmp_path / "out.png.state").write_bytes(b"torn")
    result = mlcli("stylize", content, "--style", style, "-o", tmp_path / "out.png", "--resume", *QUICK, status=1)
    assert "out.png.state: cannot be read" in result.stderr


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--style-layer", "conv9"], "did you mean conv"),
        (["--content-layer", "conv4=x"], "greater than 0"),
        (["--style-layer", "classifier"], "have no position"),
        (["--scales", "96,"], "whole numbers"),
        (["--steps", "0"], "whole numbers"),
        (["--size", "64"], "give one of the two"),
        (["--style-weight", "0"], "all are 0"),
        (["--style-weight", "1", "--style-weight", "1"], "2 times for 1 style"),
        (["--mask", "all", "--mask", "all"], "2 times for 1 style"),
        (["--scales", "2"], "too small"),
        (["-o", "out.gif"], "no format has this ending"),
        (["-o", "content.png", "--overwrite"], "the content itself"),
        (["style.png"], "2 contents need a folder"),
        (["--precision", "fp16"], "GPU"),
    ],
)
def test_errors(files, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    command = ("stylize", "content.png", "--style", "style.png", "-o", "out.png", "--scales", "16", "--steps", "1")
    assert text in mlcli(*command, *arguments, status=2).stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_style_too_small_is_named(files, tmp_path):
    content, style = files
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    arguments = ("--style", style, "--style", tmp_path / "dot.png", "-o", tmp_path / "out.png")
    assert "style 2: an image of 1 x 1 pixels is too small" in mlcli("stylize", content, *arguments, status=2).stderr


def test_nothing_is_done_in_vain(files, tmp_path, monkeypatch):
    content, style = files
    monkeypatch.setattr(style_transfer.Stylization, "_step", None)
    for output in ("/dev/null/out.png", "/dev/null/out/"):
        contents = (content,) if output.endswith("png") else (content, style)
        result = mlcli("stylize", *contents, "--style", style, "-o", output, *QUICK, status=1)
        assert result.stderr.count("cannot be written") == 1
    large = ("--style", style, "-o", tmp_path / "out.webp", "--size", 20_000)
    assert "WEBP holds at most" in mlcli("stylize", content, *large, status=2).stderr
    (tmp_path / "out-00002.png").write_bytes(b"mine")
    arguments = ("stylize", content, "--style", style, "-o", tmp_path / "out.png", *QUICK, "--snapshot-every", 2)
    assert "out-00002.png: exists already" in mlcli(*arguments, status=2).stderr
    assert (tmp_path / "out-00002.png").read_bytes() == b"mine"


def test_a_full_disk_costs_the_state_and_not_the_image(files, tmp_path):
    content, style = files
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))  # enough for the image
    try:
        arguments = ("stylize", content, "--style", style, "-o", tmp_path / "out.png", *QUICK, "--save-every", 0)
        result = mlcli(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.stderr.count("out.png.state: cannot be written") == 4
    assert Image.open(tmp_path / "out.png").size == (24, 18)
    assert not list(tmp_path.glob(".mlcli*")) and not (tmp_path / "out.png.state").exists()


def test_a_style_named_content_is_not_where_it_starts(files, tmp_path, monkeypatch):
    content, style = files
    monkeypatch.chdir(tmp_path)
    style.rename("content")
    for name, init in (("a.png", ()), ("b.png", ("--init", content))):
        mlcli("stylize", content, "--style", "content", *init, "-o", name, *QUICK)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_gray_is_where_it_may_start(files, tmp_path):
    content, style = files
    arguments = ("--init", "gray", "--scales", 16, "--steps", 1, "--lr", 0, "-q", "-o", tmp_path / "out.png")
    mlcli("stylize", content, "--style", style, *arguments)
    assert (pixels(tmp_path / "out.png") == 128).all()


@pytest.mark.parametrize("option", ["--style", "--mask", "--init"])
def test_a_bad_style_mask_or_start_is_named(files, tmp_path, option):
    content, style = files
    (tmp_path / "bad.png").write_bytes(b"no image")
    arguments = ["--style", style] if option != "--style" else []
    result = mlcli(
        "stylize", content, *arguments, option, tmp_path / "bad.png", "-o", tmp_path / "out.png", *QUICK, status=1
    )
    assert "bad.png" in result.stderr and not (tmp_path / "out.png").exists()


def test_the_hint_at_weights_on_this_disk(files, tmp_path, monkeypatch):
    content, style = files
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    arguments = ("stylize", content, "--style", style, "--scales", "16", "--steps", "1", "-o")
    assert "vgg19" not in mlcli(*arguments, tmp_path / "a.png").stderr
    weights = tmp_path / "hub" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    assert "--model vgg19" in mlcli(*arguments, tmp_path / "b.png").stderr


def test_a_trailing_slash_means_a_folder(files, tmp_path):
    content, style = files
    for name in ("new", "new.png"):
        mlcli("stylize", content, "--style", style, "-o", f"{tmp_path / name}/", *QUICK)
        assert (tmp_path / name / "content.png").is_file() and (tmp_path / name / "content.png.json").is_file()
    mlcli("stylize", content, style, "--style", style, "-o", f"{tmp_path / 'two.png'}/", *QUICK)
    assert (tmp_path / "two.png" / "style.png").is_file()
    result = mlcli("stylize", content, style, "--style", style, "-o", tmp_path / "x.png", *QUICK, status=2)
    assert "x.png/ is one" in result.stderr


def test_contents_dated_in_the_future_are_painted_once(files, tmp_path):
    content, style = files
    arguments = ("stylize", content, "--style", style, "-o", f"{tmp_path / 'out'}/", *QUICK)
    for path in files:
        os.utime(path, (4_000_000_000, 4_000_000_000))
    mlcli(*arguments)
    before = (tmp_path / "out" / "content.png").stat().st_mtime_ns
    mlcli(*arguments)
    assert (tmp_path / "out" / "content.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_transparency_and_metadata_stay(tmp_path, files, ending):
    _, style = files
    content = tmp_path / f"clear.{ending}"
    image = Image.open(files[0]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    about = Image.Exif()
    about[274], about[315] = 3, "Somebody"
    image.save(content, exif=about.tobytes(), dpi=(300, 300))
    target = tmp_path / f"out.{ending}"
    mlcli("stylize", content, "--style", style, "-o", target, *QUICK)
    with Image.open(target) as made:
        assert made.mode == "RGBA" and made.getexif()[315] == "Somebody" and made.getexif().get(274, 1) == 1
        opacity = np.asarray(made.getchannel("A")).astype(int)
        if ending != "webp":
            assert made.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert opacity[0].min() > 240 and opacity[-1].max() < 15  # rotated with the pixels
    mlcli("stylize", content, "--style", style, "-o", tmp_path / "out.jpg", *QUICK)
    with Image.open(tmp_path / "out.jpg") as made:
        assert made.mode == "RGB" and made.getexif()[315] == "Somebody"
