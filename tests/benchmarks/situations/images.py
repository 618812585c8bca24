"""Which files are images, and how their pixels are read: sections B and C."""

import importlib.util
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.bug_reports import (
    SMALL,
    NotTried,
    data,
    described,
    expect,
    image,
    run,
    situation,
    translator,
)

TRAIN = ("train", "d", "-o", "r", *SMALL)


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
        assert "pip install pillow-heif" in run("classify", "d", "--model", "cifarnet").err


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
