"""Messages on options and runs, and what an audit found: sections F and G."""

import csv
import importlib.util
import io
import json
import os
import resource
import struct
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.bug_reports import (
    SMALL,
    NotTried,
    begin,
    data,
    expect,
    image,
    pairs,
    run,
    situation,
    translator,
)

TRAIN = ("train", "d", "-o", "r", *SMALL)


# -- F: help, messages, small ones ----------------------------------------------------------------------------------

PIX2PIX = ("pix2pix", "p", "-o", "r", "--size", 32, "--filters", 2, "--discriminator-filters", 2, "--steps", 1)


@situation("F", "pix2pix --labels-a 2 on maps of 0 and 255 says how to number them")
def _():
    pairs(Path("p"), (0, 255))
    done = run(*PIX2PIX, "--labels-a", 2)
    assert done.status == 1 and "255 to 1" in done.err and "more classes" not in done.err, done.err


@situation("F", "a trailing slash is a folder, an ending of images a file")
def _():
    image(Path("a.png")), translator(Path("t"))
    expect(run("translate", "t", "a.png", "-o", "b.png"), 0)
    assert Path("b.png").is_file()
    expect(run("translate", "t", "a.png", "-o", "new/"), 0)
    assert Path("new/a.png").is_file()
    image(Path("s.png"), 1)
    more = ("--style", "s.png", "--steps", 1, "--size", 32, "--model", "cifarnet")
    expect(run("stylize", "a.png", "-o", "painted/", *more), 0)
    assert Path("painted/a.png").is_file()


@situation("F", "neighbors without a home that can be written names --index")
def _():
    data(Path("d"))
    home = {"HOME": "/dev/null", "XDG_CACHE_HOME": ""}
    words = ("neighbors", "d/cat/0.png", "--among", "d/cat", "d/ship", "-o", "n.png", "--model", "cifarnet")
    done = run(*words, env=home)
    assert done.status == 0 or "--index" in done.err, done.err


@situation("F", "a finished run is extended, or the message says which command trains it further")
def _():
    data(Path("d"))
    expect(run(*TRAIN), 0)
    assert "--freeze none" in expect(run("train", "d", "-o", "r", "--resume", "--epochs", 2), 2).err
    expect(run("train", "d", "-o", "c", *SMALL, "--schedule", "constant"), 0)
    expect(run("train", "d", "-o", "c", "--resume", "--epochs", 2), 0)
    assert json.loads(Path("c/metrics.jsonl").read_text().splitlines()[-1])["step"] == 10


@situation("F", "the message on a missing run says that there is no such run")
def _():
    image(Path("a.png"))
    done = run("translate", "nosuchrun", "a.png", "-o", "o")
    assert done.status in (1, 2) and "nosuchrun: no such run" in done.err and "weights" not in done.err, done.err


@situation("F", "maximize of a class that only the last layer was trained on says so")
def _():
    data(Path("d"))
    expect(run("finetune", "d", "-o", "r", "--model", "cifarnet"), 0)
    expect(run("maximize", "logit:cat", "--model", "r", "-o", "a.png", "--steps", 2), 0, "--freeze none")


# -- G: found by attack ---------------------------------------------------------------------------------------------


def with_description(folder: Path, **changes) -> Path:
    """A run folder of a small classifier, whose file says otherwise of itself."""
    from mlcli.models import registry
    from mlcli.training import run_folder

    model = registry.create("lenet", ["cat", "dog"], 20, 1)
    description = json.loads(json.dumps(model.describe())) | changes
    run_folder.save_tensors(folder / "model.safetensors", model.network.state_dict(), description)
    return folder


@situation("G1", "opening a run builds nothing that downloads or unpickles")
def _():
    image(Path("a.png"))
    for name in ("fasterrcnn_resnet50_fpn", "deeplabv3_resnet50", "timm/hf-hub:timm/resnet18.a1_in1k", "raft_large"):
        done = run("classify", "a.png", "--model", with_description(Path("r"), architecture=name), "--format", "json")
        assert done.status == 1 and not done.out and "damaged" in done.err, done


@situation("G1", "sample writes nowhere outside of -o, whatever the names of classes are")
def _():
    from mlcli.methods.generation.sampling import SAMPLER
    from mlcli.networks.dcgan import Generator
    from mlcli.training import run_folder

    network = Generator(16, 1, 4, 2, 2)
    description = {
        "kind": SAMPLER.name,
        "options": network.options,
        "classes": ["../outside", str(Path("absolute").absolute())],
    }
    run_folder.save_tensors(Path("r/model.safetensors"), network.state_dict(), description)
    expect(run("sample", "r", "-n", 2, "-o", "o"), 0)
    assert len(list(Path().rglob("*.png"))) == len(list(Path("o").rglob("*.png"))) == 2


@situation("G3", "long names are said, and no traceback")
def _():
    data(Path("d"))
    for length in (251, 256, 300):
        name = "x" * length
        assert run("train", "d", "-o", name, *SMALL).status in (0, 1, 2)
        assert run(*TRAIN, "--val", name, "--overwrite").status in (1, 2)
        assert run("neighbors", "d/cat/0.png", "--among", "d", "-o", "n.png", "--overwrite", "--model", "cifarnet",
                   "--index", name).status in (0, 1, 2)  # fmt: skip


@situation("G4", "a disk that is full while training is one message")
def _():
    data(Path("d"))
    done = run(*TRAIN, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    assert done.status == 1 and "cannot be written" in done.err, done.err


@situation("G5", "what killed writes left is no obstacle, and goes")
def _():
    data(Path("d"))
    for folder in ("p", "p/A/cat", "p/B/cat", "p/A/ship"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, ".mlcli-999999-0123456789ab.png").write_bytes(b"half")
    expect(run("pairs", "d", "--make", "gray", "-o", "p"), 0)
    assert not list(Path("p").rglob(".mlcli-999999-*")), list(Path("p").rglob(".mlcli-*"))


@situation("G6", "an image without its JSON is not taken for finished unsaid; a finished adapt is left alone")
def _():
    image(Path("c/a.png")), image(Path("s.png"), 1)
    words = ("stylize", "c", "--style", "s.png", "-o", "o", "--steps", 1, "--size", 32, "--model", "cifarnet")
    expect(run(*words), 0)
    Path("o/a.png.json").unlink()
    done = run(*words)
    assert Path("o/a.png.json").is_file() or done.status == 1 and "o/a.png" in done.err, done
    data(Path("d"), size=16), data(Path("t"), size=16)
    words = ("adapt", "--method", "adda", "d", "t", "-o", "r", "--steps", 2, "--source-steps", 2, "--batch-size", 4)
    expect(run(*words), 0)
    before = {file: file.stat().st_mtime_ns for file in Path("r").rglob("*") if file.suffix in (".safetensors", ".pt")}
    expect(run(*words, "--resume"), 0)
    assert all(file.stat().st_mtime_ns == changed for file, changed in before.items())


@situation("G7", "a pipe among the inputs is named, and nothing waits for it")
def _():
    data(Path("d"))
    os.mkfifo("d/cat/pipe.png")
    done = run("classify", "d", "--model", "cifarnet", seconds=90)
    assert done.status in (0, 1) and "pipe" in done.err, done


@situation("G8", "tiny files take no gigabytes and no minutes")
def _():
    Path("a.webp").write_bytes(bytes.fromhex("524946461a000000574542505650384c0e0000002faff6ab0d071011fd0f4444ff03"))
    Image.new("L", (16, 16)).save("b.tif")
    content = bytearray(Path("b.tif").read_bytes())
    position = content.find(struct.pack("<HH", 257, 4)) if b"\x01\x01\x04\x00" in content else content.find(b"\x01\x01")
    content[position + 8 : position + 12] = struct.pack("<I", 1 << 20)
    Path("b.tif").write_bytes(content)
    for name in ("a.webp", "b.tif"):
        done = run("classify", name, "--model", "cifarnet", seconds=90)
        assert done.status == 1 and done.mebibytes < 2048, (name, done.status, done.mebibytes)


@situation("G9", "own files that are damaged are one message each")
def _():
    data(Path("d"))
    expect(run(*TRAIN), 0)
    whole = Path("r/config.json").read_text()
    for text in (
        "[]",
        "null",
        "[" * 100_000,
        '{"versions": {"mlcli": "1"}}',
        whole.replace('"epochs": 1', '"epochs": []'),
    ):
        Path("r/config.json").write_text(text)
        assert run(*TRAIN, "--resume").status in (1, 2)
    Path("r/config.json").write_text(whole)
    Path("r/metrics.jsonl").write_text('5\n[]\n{"step": "x"}\n')
    expect(run(*TRAIN, "--resume"), 0)
    expect(run("pairs", "d", "--make", "gray", "-o", "p"), 0)
    for text in ("[]", "{}", '{"options": 5}', '{"command": "pairs", "options": []}'):
        Path("p/pairs.json").write_text(text)
        expect(run("pairs", "d", "--make", "gray", "-o", "p"), 2, "pairs.json", "--overwrite")
    image(Path("a.png"))
    for changes in ({"preprocessing": {"crop": 0}}, {"options": {"channels": -1}}, {"options": {"size": 10**6}},
                    {"classes": 5}, {"preprocessing": {"crop": 10**6}}):  # fmt: skip
        expect(run("classify", "a.png", "--model", with_description(Path("m"), **changes), seconds=60), 1, "damaged")


@situation("G10", "huge learning rates end with a message before anything is drawn")
def _():
    data(Path("i"), "abcdefgh", 6, 16), data(Path("d"), size=16)
    done = run("siamese-train", "i", "-o", "s", "--lr", 1e10, "--steps", 3, "--identities", 4)
    assert done.status == 1 and "--lr" in done.err, done.err
    done = run("finetune", "d", "-o", "f", "--model", "cifarnet", "--freeze", "conv3", "--lr", 1e38, "--epochs", 1)
    assert done.status == 1 and "--lr" in done.err, done.err


@situation("G11", "a batch larger than the data does not raise the learning rate")
def _():
    data(Path("d"), each=12)
    rates = []
    for folder, size in (("r", 24), ("s", 100_000)):
        expect(
            run(
                "train",
                "d",
                "-o",
                folder,
                "--epochs",
                1,
                "--size",
                32,
                "--model",
                "squeezenet1_1",
                "--batch-size",
                size,
            ),
            0,
        )
        rates.append(json.loads(Path(folder, "config.json").read_text())["options"]["lr"])
    assert rates[0] == rates[1] < 0.1, rates


@situation("G11", "cells of CSV are no formulas")
def _():
    for name in ("=1+1", "+2", "-3", "@x"):
        image(Path("d") / f"{name}.png")
    os.chdir("d")
    names = b"\n".join(os.fsencode(file) for file in sorted(os.listdir()))
    done = run("classify", "-", "--model", "cifarnet", "--format", "csv", given=names)
    os.chdir("..")
    assert all(cell[:1] not in ("=", "+", "@") for row in csv.reader(io.StringIO(done.out)) for cell in row), done.out


@situation("G11", "inputs dated in the future are done once")
def _():
    image(Path("i/a.png")), translator(Path("t"))
    os.utime("i/a.png", (time.time() + 10**7,) * 2)
    expect(run("translate", "t", "i", "-o", "o"), 0)
    expect(run("translate", "t", "i", "-o", "o"), 0, "1 up to date")


@situation("G11", "pairs makes the others after a result that cannot be written")
def _():
    data(Path("d"), ("x",), 3)
    Path("p").mkdir()
    expect(run("pairs", "d/x", "--make", "gray", "-o", "p"), 0)
    Path("p/A/1.png").unlink(), Path("p/A/1.png").mkdir(), Path("p/A/2.png").unlink()
    done = run("pairs", "d/x", "--make", "gray", "-o", "p")
    assert done.status == 1 and Path("p/A/2.png").is_file(), done.err


@situation("G11", "float images of the greatest values leak no warning")
def _():
    if not importlib.util.find_spec("tifffile"):
        raise NotTried("no tifffile here")
    import tifffile

    tifffile.imwrite("a.tif", np.array([[-2e38, 2e38]] * 32, np.float32).repeat(16, 1), photometric="minisblack")
    assert "Warning" not in run("classify", "a.tif", "--model", "cifarnet").err


@situation("G11", "--help in a pipe that is closed early ends 0")
def _():
    for words in (("--help",), ("train", "--help")):
        read_end, write_end = os.pipe()
        process = begin(*words, stdout=write_end)
        os.close(write_end)
        os.read(read_end, 10)
        os.close(read_end)
        error = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 0 and not error, (process.returncode, error)


@situation("G11", "a refused pickle leaks no warning, and runs nothing")
def _():
    class Evil:
        def __reduce__(self):
            return (os.system, ("touch ran",))

    import pickle

    Path("w.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    image(Path("a.png"))
    done = run("classify", "a.png", "--model", "squeezenet1_1", "--weights", "w.pth")
    assert done.status == 1 and "Warning" not in done.err and not Path("ran").exists(), done.err
