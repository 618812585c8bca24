"""Image formats: which can be read, which are only known, and telling them by the ending or the first bytes of a file.

format_of_ending("IMG_1.HEIC")       the format, without reading the file
is_other("notes.txt")                whether the ending is that of something else than an image
sniff(path)                          the format by the first bytes, for files whose ending says nothing
"""

import mimetypes
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from mlcli.io.input_files import open_input


@dataclass(frozen=True)
class Format:
    """An image format. remedy: what makes an image of it readable; empty where it can be read."""

    name: str
    remedy: str = ""


def _heif_installed() -> bool:
    return find_spec("pillow_heif") is not None


def _avif_installed() -> bool:
    from PIL import features  # a Pillow may be built without

    return bool(features.check("avif"))


# Formats that Pillow reads. It opens more (icons of old programs, PDF streams), and `image_io.read` takes them when
# they are named; these are what a folder of images has.
_READ = {
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "PNG": ".png .apng",
    "WebP": ".webp",
    "TIFF": ".tif .tiff",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "PNM": ".ppm .pgm .pbm .pnm .pfm",
    "TGA": ".tga",
    "ICO": ".ico",
    "JPEG 2000": ".jp2 .j2k .jpx .j2c .jpf",
    "QOI": ".qoi",
    "PCX": ".pcx",
    "SGI": ".sgi",
    "Sun raster": ".ras",
    "Photoshop": ".psd",
    "DDS": ".dds",
    "XBM": ".xbm",
    "XPM": ".xpm",
}
RAW = "camera raw"
# Formats that nothing here can read: endings, and what would. Endings that other files have too, such as .raw, .hdr and
# .fit, are not among them; these files are known by their first bytes.
_KNOWN = {
    "JPEG XL": (".jxl", "convert to PNG, as with `djxl`"),
    RAW: (
        ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .rwl .pef .srw .x3f .3fr .iiq .erf .kdc .mrw .mef",
        "develop to TIFF or JPEG, as with `darktable-cli` or `dcraw`",
    ),
    "DICOM": (".dcm .dicom", "convert to PNG or TIFF, as with `dcm2img` of DCMTK"),
    "NIfTI": (".nii .nii.gz", "write the slices as PNG or TIFF, as with nibabel"),
    "NRRD": (".nrrd .nhdr", "write the slices as PNG or TIFF, as with 3D Slicer"),
    "FITS": (".fits .fts", "convert to TIFF, as with astropy or ImageMagick"),
    "OpenEXR": (".exr", "convert to TIFF, as with `oiiotool` or ImageMagick"),
    "Radiance HDR": ("", "convert to TIFF, as with `oiiotool` or ImageMagick"),
    "BPG": (".bpg", "convert to PNG, as with `bpgdec`"),
    "GIMP": (".xcf", "export to PNG or TIFF from GIMP"),
    "SVG": (".svg .svgz", "convert to PNG, as with `rsvg-convert`"),
    "EPS": (".eps .epsf", "convert to PNG, as with Ghostscript"),
    "WMF": (".wmf .emf", "convert to PNG, as with LibreOffice or Inkscape"),
}


def _optional() -> dict[str, tuple[str, str]]:
    """Formats that depend on what is installed: endings, and the remedy, empty where nothing is missing."""
    heif = "" if _heif_installed() else "to read it, `pip install pillow-heif`"
    avif = "" if _avif_installed() else "to read it, `pip install -U pillow`"
    return {"HEIC": (".heic .heif .hif .heics .heifs", heif), "AVIF": (".avif .avifs", avif)}


@cache
def _formats() -> dict[str, Format]:
    """Every format by its name."""
    found = {name: Format(name) for name in _READ}
    return found | {name: Format(name, remedy) for name, (_, remedy) in (_KNOWN | _optional()).items()}


@cache
def _by_ending() -> dict[str, Format]:
    endings = _READ | {name: endings for name, (endings, _) in (_KNOWN | _optional()).items()}
    return {ending: _formats()[name] for name, several in endings.items() for ending in several.split()}


def ending(name: str) -> str:
    """The ending of a file's name in small letters, with the one before .gz: `.nii.gz`."""
    stem, last = os.path.splitext(name)
    if last.lower() == ".gz":
        last = os.path.splitext(stem)[1] + last
    return last.lower()


def format_of_ending(name: str) -> Format | None:
    """The format that the ending of a name stands for; None where it stands for none that is known."""
    return _by_ending().get(ending(name))


# ----------------------------------------------------------------------------------------- what is no image

# What the standard library's table of types lacks: data sets and models, settings, and copies and parts of files, which
# may well be images but are not meant.
_OTHERS = frozenset(
    ".npy .npz .pt .pth .safetensors .onnx .ckpt .pkl .pickle .h5 .hdf5 .parquet .arrow .feather .tfrecord .mat .db "
    ".sqlite .sqlite3 .lmdb .lst .idx .names .data .cfg .ini .toml .yaml .yml .conf .lock .log .md .rst .tex .ipynb "
    ".jsonl .ndjson .state .xmp .aae .thm .dop .pp3 .on1 .lrcat .url .lnk .desktop .exe .dll .so .dylib .o .a .obj "
    ".7z .rar .xz .zst .lz4 .bz2 .iso .dmg .mp4 .mov .m4v .mkv .avi .mts .m2ts .webm .wmv .flv .3gp .insv "
    ".bak .orig .old .tmp .temp .part .partial .crdownload .download .swp .swo .crc .md5 .sha1 .sha256 .par2".split()
)
_TYPES = mimetypes.MimeTypes(filenames=())  # without the tables of the system, which call .1 a page of a manual


def is_other(name: str) -> bool:
    """Whether the ending says that a file is no image, or a copy or a part of one that is not meant."""
    last = ending(name)
    if last in _by_ending():
        return False
    if last.endswith("~") or name.endswith("~") or last in _OTHERS:
        return True
    known = _TYPES.types_map[True].get(last)
    if last.endswith(".gz"):
        return True
    return known is not None and not known.startswith("image/") and known != "application/octet-stream"


# -------------------------------------------------------------------------------------------- the first bytes

HEAD = 512  # bytes that are read

_MAGIC: tuple[tuple[int, bytes, str], ...] = (  # (position, bytes there, format); the first that fits
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"qoif", "QOI"),
    (0, b"8BPS", "Photoshop"),
    (0, b"DDS ", "DDS"),
    (0, b"/* XPM", "XPM"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"\x01\xda\0\x01", "SGI"),
    (0, b"\x01\xda\x01\x01", "SGI"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"FUJIFILMCCD-RAW", RAW),
    (0, b"IIRO", RAW),
    (0, b"IIRS", RAW),
    (0, b"MMOR", RAW),
    (0, b"IIU\0", RAW),
    (0, b"FOVb", RAW),
    (8, b"CR\x02", RAW),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (128, b"DICM", "DICOM"),
    (0, b"NRRD000", "NRRD"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"#?RGBE", "Radiance HDR"),
    (0, b"BPG\xfb", "BPG"),
    (0, b"gimp xcf", "GIMP"),
    (0, b"%!PS-Adobe", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (40, b" EMF", "WMF"),
)
_BMP_HEADERS = {length.to_bytes(4, "little") for length in (12, 16, 40, 52, 56, 64, 108, 124)}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_RULES: tuple[tuple[Callable[[bytes], object], str], ...] = (
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", "WebP"),
    # The bytes 6 to 9 of a BMP are reserved, and its second header has one of a few lengths
    (lambda head: head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS, "BMP"),
    (lambda head: re.match(rb"P[1-6Ff](\s|#)", head), "PNM"),
    (lambda head: head[4:8] == b"ftyp" and _brands(head) & {b"avif", b"avis"}, "AVIF"),
    (lambda head: head[4:8] == b"ftyp" and _brands(head) & {b"crx "}, RAW),
    (lambda head: head[4:8] == b"ftyp" and _brands(head) & _HEIF, "HEIC"),
    (lambda head: re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg|<svg)", head), "SVG"),
)


def _brands(head: bytes) -> set[bytes]:
    """The kinds of content that the first box of an ISO file (HEIC, AVIF, MP4) names."""
    box = head[8 : int.from_bytes(head[:4])]
    return {box[:4], *(box[at : at + 4] for at in range(8, len(box), 4))}


def format_of_bytes(head: bytes) -> Format | None:
    """The format of a file that begins with these bytes (`HEAD` of them suffice); None where it is none that is known.

    TGA, PCX and XBM have no mark that other files lack, and are known by their ending alone.
    """
    for position, mark, name in _MAGIC:
        if head.startswith(mark, position):
            return _formats()[name]
    return next((_formats()[name] for rule, name in _RULES if rule(head)), None)


def sniff(path: str | os.PathLike[str]) -> Format | None:
    """The format by the first bytes of a regular file or a member of an archive; None for what is no image.

    Raises OSError where it may not be read, ImageError for a member that cannot be.

    Other kinds of files, such as pipes, on which a reader might wait for ever, are for the caller to keep away.
    """
    with open_input(path) as stream:
        return format_of_bytes(stream.read(HEAD))
