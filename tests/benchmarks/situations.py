"""The situations of bug_reports.py, by the sections in which they were found; each in an empty folder of its own."""

import csv
import importlib.util
import io
import json
import os
import resource
import signal
import struct
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.bug_reports import (
    SMALL,
    NotTried,
    begin,
    data,
    described,
    expect,
    image,
    pairs,
    run,
    situation,
    translator,
)

TRAIN = ("train", "d", "-o", "r", *SMALL)


def without_reader() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


# -- A: work lost because a message could not be written ------------------------------------------------------------


@situation("A", "train with a stderr that nobody reads keeps its work")
def _():
    data(Path("d"))
    expect(run(*TRAIN, stderr=without_reader()), 0)
    assert Path("r/model.safetensors").is_file() and list(Path("r/state").iterdir())


@situation("A", "train with stderr on a full device keeps its work")
def _():
    data(Path("d"))
    expect(run(*TRAIN, stderr=open("/dev/full", "w")), 0)
    assert Path("r/model.safetensors").is_file()


@situation("A", "translate with a stderr that nobody reads ends 0 after its results")
def _():
    image(Path("i/a.png")), translator(Path("t"))
    expect(run("translate", "t", "i", "-o", "o", stderr=without_reader()), 0)
    assert Path("o/a.png").is_file()


@situation("A", "without stderr the JSON on stdout is whole and alone, also of a file that cannot be read")
def _():
    data(Path("d")), Path("d/cat/broken.png").write_bytes(b"no image")
    for quiet in ((), ("-q",)):
        done = run("classify", "d", "--model", "cifarnet", "--format", "json", *quiet, before=lambda: os.close(2))
        assert done.status == 1 and len(json.loads(done.out)) >= 20


@situation("A", "a stdin or stdout that is missing is no traceback")
def _():
    data(Path("d"))
    for words in (("layers", "--model", "cifarnet"), ("models",), ("classify", "d", "--model", "cifarnet")):
        expect(run(*words, before=lambda: os.close(1)), 0)
    assert run("classify", "-", "--model", "cifarnet", before=lambda: os.close(0)).status in (1, 2)


@situation("A", "a full stdout is one line and exit 1")
def _():
    data(Path("d"))
    for words in (("classify", "d", "--model", "cifarnet", "-q"), ("doctor",), ("models",)):
        done = expect(run(*words, stdout=open("/dev/full", "w")), 1)
        assert done.err.count("\n") == 1, done.err


@situation("A", "SIGHUP saves and ends with 129, and the run resumes")
def _():
    data(Path("d"))
    process = begin("train", "d", "-o", "r", "--epochs", 100_000, "--batch-size", 4, "--size", 16)
    end = time.monotonic() + 120
    while not Path("r/metrics.jsonl").is_file() and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 129 and list(Path("r/state").iterdir())


@situation("A", "-o /dev/stdout leaves the caller's other lines in the log")
def _():
    image(Path("a.png"))
    for name in ("/dev/stdout", "/dev/fd/1"):
        for more in ((), ("--overwrite",)):
            with open("log", "w") as log:
                log.write("before\n")
                log.flush()
                expect(run("classify", "a.png", "--model", "cifarnet", "-o", name, "-q", *more, stdout=log), 0)
            assert Path("log").read_text().startswith("before\n") and "a.png" in Path("log").read_text()


# -- B: images left out or let in, unsaid ---------------------------------------------------------------------------


@situation("B", "known formats that cannot be read are named, with their number")
def _():
    data(Path("d"), each=1)
    Path("d/a.jxl").write_bytes(b"\xff\x0a" + bytes(50))
    Path("d/b.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    Path("d/c.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(50))
    done = run("classify", "d", "--model", "cifarnet")
    for word in ("JPEG XL", "DICOM", "raw"):
        assert word.lower() in done.err.lower(), done.err


@situation("B", "HEIC of phones is read, or named with what reads it")
def _():
    Path("d").mkdir()
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        image(Path("d/a.png")), Image.open("d/a.png").save("d/b.heic")
        assert "b.heic" in expect(run("classify", "d", "--model", "cifarnet", "--format", "csv"), 0).out
    else:
        image(Path("d/a.png"))
        Path("d/b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
        assert "mlcli[heif]" in run("classify", "d", "--model", "cifarnet").err


@situation("B", "images with odd endings, or none, are looked into")
def _():
    for name in ("photo.jpg_large", "photo.jpg.1", "without"):
        image(Path("d") / name, format="JPEG")
    done = expect(run("classify", "d", "--model", "cifarnet", "--format", "json"), 0)
    assert len(json.loads(done.out)) == 3


@situation("B", "loose images beside class folders are named by train, finetune and classify --evaluate")
def _():
    data(Path("d")), image(Path("d/loose.png"))
    assert "loose" in run(*TRAIN).err
    assert "loose" in run("finetune", "d", "-o", "f", "--model", "cifarnet").err
    assert "loose" in run("classify", "d", "--evaluate", "--model", "r").err


@situation("B", "a class of which no file can be read is not in the model")
def _():
    data(Path("d"))
    for index in range(3):
        (Path("d/ghost")).mkdir(exist_ok=True)
        Path(f"d/ghost/{index}.png").write_bytes(b"no image")
    run(*TRAIN)
    assert described(Path("r/model.safetensors"))["classes"] == ["cat", "ship"]


@situation("B", "folders of systems are no classes and no data")
def _():
    data(Path("d"))
    for name in ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found"):
        image(Path("d") / name / "0.png"), image(Path("d/cat") / name / "0.png")
    expect(run(*TRAIN), 0)
    assert described(Path("r/model.safetensors"))["classes"] == ["cat", "ship"]
    done = expect(run("classify", "d", "--model", "cifarnet", "--format", "json"), 0)
    assert len(json.loads(done.out)) == 20


@situation("B", "the root of a split given as DATA is refused with the correct command line")
def _():
    data(Path("d/train")), data(Path("d/val"))
    for words in (TRAIN, ("finetune", "d", "-o", "f", "--model", "cifarnet")):
        done = run(*words)
        assert done.status in (1, 2) and "d/train" in done.err and "--val d/val" in done.err, done.err


@situation("B", "of a TIFF of several pages it is said that the first is read, and one line sums up")
def _():
    pages = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 100, 200)]
    Path("d").mkdir()
    pages[0].save("d/a.tif", save_all=True, append_images=pages[1:])
    Path("d/notes.txt").write_text("x")
    done = expect(run("classify", "d", "--model", "cifarnet"), 0)
    assert "page" in done.err and "1 image" in done.err and ".txt" in done.err, done.err


# -- C: wrong pixels ------------------------------------------------------------------------------------------------


def read(file: str) -> np.ndarray:
    from mlcli.imaging import image_io

    values = image_io.read(file)
    return (values.float() / 255 if not values.is_floating_point() else values).permute(1, 2, 0).numpy()


@situation("C", "16-bit planar TIFFs are no stripes")
def _():
    if not importlib.util.find_spec("tifffile"):
        raise NotTried("no tifffile here")
    import tifffile

    values = np.random.default_rng(0).integers(0, 1 << 16, (3, 24, 40), dtype=np.uint16)
    for order in "<>":
        for more in ({}, {"tile": (16, 16)}, {"rowsperstrip": 5}):
            tifffile.imwrite("a.tif", values, photometric="rgb", planarconfig="separate", byteorder=order, **more)
            assert np.abs(read("a.tif") - values.transpose(1, 2, 0) / 65535).max() < 0.01, (order, more)


@situation("C", "uint32 TIFFs above 2^31 are bright")
def _():
    if not importlib.util.find_spec("tifffile"):
        raise NotTried("no tifffile here")
    import tifffile

    ramp = np.linspace(0, (1 << 32) - 1, 64).astype(np.uint32).reshape(8, 8)
    tifffile.imwrite("a.tif", ramp, photometric="minisblack")
    assert (np.diff(read("a.tif")[:, :, 0].flatten()) >= 0).all() and read("a.tif").max() > 0.9


@situation("C", "BMP and TGA whose alpha is 0 everywhere are opaque")
def _():
    colors = np.random.default_rng(0).integers(0, 200, (8, 8, 4), dtype=np.uint8)
    colors[..., 3] = 0
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 8, 32, 0x20)
    Path("a.tga").write_bytes(header + colors.tobytes())
    bitmap = struct.pack("<IiiHHIIiiII", 40, 8, -8, 1, 32, 0, 256, 0, 0, 0, 0)
    Path("a.bmp").write_bytes(struct.pack("<2sIHHI", b"BM", 310, 0, 0, 54) + bitmap + colors.tobytes())
    for name in ("a.tga", "a.bmp"):
        assert np.abs(read(name) * 255 - colors[..., 2::-1]).max() < 2, name


@situation("C", "PNGs with large chunks of text or profiles are read")
def _():
    image(Path("a.png"))
    content = Path("a.png").read_bytes()
    long = zlib.compress(b"x" * 80_000_000)
    chunks = {"zTXt": b"k\0\0" + long, "iCCP": b"k\0\0" + long, "iTXt": b"k\0\1\0\0\0" + long}
    for kind, body in chunks.items():
        whole = kind.encode() + body
        chunk = struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))
        Path("b.png").write_bytes(content[:33] + chunk + content[33:])
        expect(run("classify", "b.png", "--model", "cifarnet"), 0)


@situation("C", "a JPEG two bytes short is refused, and taken by --accept-truncated")
def _():
    image(Path("a.jpg"), size=64)
    Path("a.jpg").write_bytes(Path("a.jpg").read_bytes()[:-20])
    assert "--accept-truncated" in expect(run("classify", "a.jpg", "--model", "cifarnet"), 1).err
    expect(run("classify", "a.jpg", "--model", "cifarnet", "--accept-truncated"), 0)


@situation("C", "12-bit data in 16-bit files are told of, and stretched")
def _():
    Path("d").mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (32, 32), dtype=np.uint16)
    Image.fromarray(values).save("d/a.png")
    assert "--stretch" in run("classify", "d", "--model", "cifarnet").err
    expect(run("classify", "d", "--model", "cifarnet", "--stretch"), 0)


@situation("C", "translate keeps transparency and resolution")
def _():
    image(Path("i/a.png"), mode="RGBA", dpi=(300, 300)), translator(Path("t"))
    expect(run("translate", "t", "i", "-o", "o"), 0)
    made = Image.open("o/a.png")
    assert made.mode == "RGBA" and round(made.info["dpi"][0]) == 300
    assert (np.asarray(made)[..., 3] == np.asarray(Image.open("i/a.png"))[..., 3]).all()


# -- D: lists and names ---------------------------------------------------------------------------------------------


@situation("D", "lists in UTF-16, with a byte-order mark and without, are decoded or refused, and no disk is walked")
def _():
    names = [str(image(Path(f"d/{name}.png")).absolute()) for name in ("a", "b")]
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"):
        done = run("classify", "-", "--model", "cifarnet", "--format", "json",
                   given="\n".join(names).encode(encoding), seconds=60)  # fmt: skip
        assert done.status in (0, 1, 2), "it walks the disk"
        assert done.status or len(json.loads(done.out)) == 2, done.out


@situation("D", "names that differ in Unicode normalization alone are one class")
def _():
    data(Path("d"), ("caf\u00e9", "ship")), data(Path("e"), ("cafe\u0301", "ship"))
    expect(run(*TRAIN, "--val", "e"), 0)
    expect(run("classify", "e", "--evaluate", "--model", "r"), 0)


@situation("D", "a folder named ~ is worth a warning")
def _():
    image(Path("a.png"))
    assert "~" in run("classify", "a.png", "--model", "cifarnet", "-o", "~/x.txt").err


# -- E: two at once -------------------------------------------------------------------------------------------------


def both(first: tuple, second: tuple) -> list[int]:
    """The exit statuses of two commands at once, sorted."""
    processes = [begin(*words) for words in (first, second)]
    texts = [process.communicate(timeout=400)[1].decode() for process in processes]
    assert not any("Traceback" in text for text in texts), texts
    return sorted(process.returncode for process in processes)


@situation("E", "of two train on one run folder one works and one is told so")
def _():
    data(Path("d"))
    words = ("train", "d", "-o", "r", "--epochs", 30, "--batch-size", 4, "--size", 16)
    statuses = both(words, words)
    assert statuses[0] == 0 and statuses[1] in (1, 2) and Path("r/model.safetensors").is_file(), statuses


@situation("E", "overlapping --resume do not mix their metrics")
def _():
    data(Path("d"))
    words = ("train", "d", "-o", "r", "--epochs", 30, "--batch-size", 4, "--size", 16, "--resume")
    both(words, words)
    expect(run(*words), 0)
    steps = [json.loads(line)["step"] for line in Path("r/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), steps


@situation("E", "a holder that was killed blocks nothing")
def _():
    data(Path("d"))
    process = begin("train", "d", "-o", "r", "--epochs", 100_000, "--batch-size", 4, "--size", 16, "--save-every", 0)
    end = time.monotonic() + 120
    while not list(Path("r").glob("state/*.pt")) and time.monotonic() < end:
        time.sleep(0.1)
    held = run("train", "d", "-o", "r", "--resume", "--epochs", 100_000, "--batch-size", 4, "--size", 16)
    assert held.status == 1 and str(process.pid) in held.err, held.err
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    expect(run(*TRAIN, "--overwrite"), 0)
    assert not list(Path("r").rglob(".mlcli-*")), list(Path("r").rglob(".mlcli-*"))


@situation("G2", "train and gan on one run folder: one works, nothing is mixed")
def _():
    data(Path("d"))
    gan = ("gan", "d", "-o", "r", "--steps", 5, "--batch-size", 4, "--filters", 2, "--size", 16, "--compared", 0)
    statuses = both(TRAIN, gan)
    assert statuses[0] == 0 and statuses[1] in (1, 2), statuses
    kind = described(Path("r/model.safetensors"))["kind"]
    assert (json.loads(Path("r/config.json").read_text())["command"] == "train") == (kind == "classifier")


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
