"""Damaged image files: seeds of every format, mutations of their bytes, and what reading them costs."""

import io
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mlcli.imaging import decoder
from tests import odd_images, tiff_files

MEMORY = 2_000_000_000  # bytes that the process may hold at most
SECONDS = 20.0  # for one file, of which most have less than a kilobyte; more is a hang
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty", "pty.spawn")


def seeds(folder: Path) -> list[Path]:
    """Small whole files of all formats and layouts, in `folder`."""
    good, _ = odd_images.make(folder)
    decoder.prepare()  # which makes formats known that Pillow reads with a library beside it
    rgb = Image.fromarray(odd_images.RGB)
    for ending in ("dds", "dib", "xbm", "qoi", "blp", "icns", "im", "msp", "heic"):
        image = rgb.convert("1") if ending in ("xbm", "msp") else rgb.resize((32, 32))
        image = image.convert("P") if ending == "blp" else image
        try:
            image.save(folder / f"more.{ending}")
        except (KeyError, OSError, ValueError):  # read, and not written by Pillow
            continue
    for ending, data in _by_hand().items():
        (folder / f"more.{ending}").write_bytes(data)
    for number, (planar, tiled, compression, dtype) in enumerate(
        (planar, tiled, compression, dtype)
        for planar in (False, True)
        for tiled in (False, True)
        for compression in ("none", "deflate", "lzw", "packbits")
        for dtype in ("u1", "u2", "f4")
    ):
        data = tiff_files.tiff(
            odd_images.RGB.astype(dtype), photometric=2, planar=planar, tiled=tiled, compression=compression,
            endian="<>"[number % 2],
        )  # fmt: skip
        (folder / f"layout{number}.tif").write_bytes(data)
    written = [*good, *(path.name for path in folder.iterdir() if path.name.startswith(("more.", "layout")))]
    return [folder / name for name in sorted(set(written)) if len(name) < 40]


def _by_hand() -> dict[str, bytes]:
    """Images by ending, in formats that Pillow reads and does not write."""
    height, width = odd_images.RGB.shape[:2]
    rows = odd_images.RGB[..., ::-1].tobytes()
    planes = odd_images.RGB.transpose(2, 0, 1).tobytes()
    psd = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3) + bytes(12) + b"\0\0" + planes
    sun = struct.pack(">8I", 0x59A66A95, width, height, 24, len(rows), 1, 0, 0) + rows
    lines = ",\n".join('"' + "ab" * (width // 2) + '"' for _ in range(height))
    xpm = f'/* XPM */\nstatic char *a[] = {{\n"{width} {height} 2 1",\n"a c #ff0000",\n"b c #0000ff",\n{lines}\n}};\n'
    buffer = io.BytesIO()
    Image.fromarray(odd_images.RGB).resize((32, 32)).save(buffer, "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    cur = bytearray(buffer.getvalue())
    cur[2] = 2
    cards = ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", f"NAXIS1  = {width}", f"NAXIS2  = {height}", "END")
    fits = "".join(card.ljust(80) for card in cards).ljust(2880).encode() + odd_images.GRAY.tobytes()
    return {"psd": psd, "ras": sun, "xpm": xpm.encode(), "cur": bytes(cur), "fits": fits}


def mutated(data: bytes, random: np.random.Generator, others: list[bytes]) -> bytes:
    """Another file: bytes changed in the header or anywhere, numbers made extreme, pieces cut, doubled or exchanged."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        if len(data) < 8:
            break
        at = int(random.integers(min(len(data) - 4, random.choice([32, 128, 10**6]))))
        kind = random.integers(8)
        if kind <= 1:
            for position in random.integers(0, len(data), random.integers(1, 9)):
                data[position] = random.integers(256)
        elif kind == 2:
            data[at] ^= 1 << random.integers(8)
        elif kind == 3:
            value = int(random.choice([0, 1, 127, 128, 255, 256, 32767, 65535, 10**5, 2**31 - 1, 2**31, 2**32 - 1]))
            data[at : at + 4] = struct.pack(random.choice(["<I", ">I"]), value)
        elif kind == 4:
            value = int(random.choice([0, 1, 255, 256, 16383, 14000, 32767, 65535]))
            data[at : at + 2] = struct.pack(random.choice(["<H", ">H"]), value)
        elif kind == 5:
            data = data[: random.integers(1, len(data))]
        elif kind == 6:
            length = int(random.integers(1, 1 + len(data) // 2))
            data[at:at] = data[at : at + length] * int(random.choice([1, 1, 1, 30]))
        else:
            other = others[random.integers(len(others))]
            start = int(random.integers(len(other)))
            data[at : at + 64] = other[start : start + int(random.integers(1, 256))]
    data = bytes(data[:2_000_000])
    return summed(data) if random.random() < 0.7 else data


def summed(data: bytes) -> bytes:
    """A PNG with the right check sum at each chunk, without which all that follows is refused; others as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    done, at = data[:8], 8
    while at + 12 <= len(data) and (end := at + 8 + int.from_bytes(data[at : at + 4])) + 4 <= len(data):
        done += data[at:end] + struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return done + data[at:]


def files(folder: Path, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(the name of the whole file, a damaged one), in turns over all formats."""
    whole = {path.name: path.read_bytes() for path in seeds(folder)}
    formats: dict[str, list[str]] = {}
    for name in whole:
        formats.setdefault(Path(name).suffix.lower(), []).append(name)
    random, every, endings = np.random.default_rng(seed), list(whole.values()), sorted(formats)
    for number in range(count):
        names = formats[endings[number % len(endings)]]
        name = names[random.integers(len(names))]
        yield name, mutated(whole[name], random, every)


class Watch:
    """Notes programs that are started, and the most memory that the process holds, as long as it is open."""

    def __init__(self):
        self.programs: list[str] = []
        self.memory = 0
        self.open = True
        sys.addaudithook(self._heard)  # there is no way to take it away again
        threading.Thread(target=self._watch, daemon=True).start()

    def _heard(self, event: str, arguments: tuple) -> None:
        if self.open and event in STARTS:
            self.programs.append(f"{event} {arguments[:1]}")

    def _watch(self) -> None:
        while self.open:
            self.memory = max(self.memory, held())
            time.sleep(0.005)


def held() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def trial(name: str, data: bytes, folder: Path) -> dict:
    """Read one damaged file: its outcome ("tensor", "error", or what went wrong) and seconds."""
    from mlcli.errors import ImageError
    from mlcli.imaging import image_io

    path = folder / f"damaged{Path(name).suffix}"
    path.write_bytes(data)
    began = time.monotonic()
    try:
        pixels = image_io.read(path)
        outcome = "tensor"
        low, high = pixels.amin().item(), pixels.amax().item()
        if pixels.ndim != 3 or pixels.shape[0] != 3 or low < 0 or high > (1 if pixels.is_floating_point() else 255):
            outcome = f"a tensor of shape {tuple(pixels.shape)} from {low} to {high}"
    except ImageError as error:
        outcome = "error" if str(error).startswith(f"{path}: ") else f"a message without the file: {error}"
    except Exception as error:
        outcome = f"traceback: {error!r}"
    return {"outcome": outcome, "seconds": time.monotonic() - began}
