"""The folder of an atlas: what it was started with, the finished units, and the page that shows them.

FOLDER/
  atlas.json    every option, seed, versions, model and list of images: what --resume compares
  patches.json  the patches of all units, from one pass over the images; absent without --images
  units/        for each unit its images and, written last, NUMBER.json
  index.html    the page
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL.Image import Image

from mlcli.api.option_tables import option_section
from mlcli.api.outputs import refuse_existing_folder
from mlcli.api.unit_patches import UNITS
from mlcli.counting import counted
from mlcli.errors import RunError, UsageError
from mlcli.imaging import image_io
from mlcli.io import files, schema
from mlcli.io.files import json_text, write_json
from mlcli.reporting import gallery, sections
from mlcli.reporting.gallery import GalleryImage, Row
from mlcli.reporting.sections import Section
from mlcli.training.run_folder import COMMAND_LINE, read_json

# The parts of atlas.json besides the options that must not have changed, and what messages call them
FIXED = {"model_hash": "model weights", "images": "images"}


def _own_file(value: object) -> object:
    """The check of the name of an image of a unit, which the page shows."""
    if not isinstance(value, str) or not re.fullmatch(r"units/[\w.-]{1,200}", value):
        raise schema.Invalid(f"should be a file in units/, is {schema.told(value)}")
    return value


ADVICE = "restore the file, or start from scratch with --overwrite"
CONFIG = schema.record(
    {"command": schema.text(200), "options": schema.OBJECT}, {"command_line": schema.text(COMMAND_LINE)}
)
IMAGE = schema.record(
    {"file": _own_file, "caption": schema.text(), "ratio": schema.number(1e-3, 1e3)},
    {"height": schema.number(0.1, 100)},
    closed=True,
)
UNIT = schema.record({"heading": schema.text(), "images": schema.items(IMAGE)})
PATCHES = schema.record({"images": schema.integer(0, 1 << 62), "units": UNITS})


class Drawn(NamedTuple):
    """An image of a row: the end of its file's name, the caption below it, the image itself, and its `height`.

    height: on the page, in heights of a row of images.
    """

    name: str
    caption: str
    image: Image
    height: float = 1.0


class AtlasFolder:
    """The folder of an atlas of `units`, whether or not it has been started."""

    def __init__(self, folder: Path, units: Sequence[int] = ()):
        self.folder, self.units = folder, list(units)
        self.config_file = folder / "atlas.json"
        self.patches_file = folder / "patches.json"
        self.page = folder / "index.html"
        self.units_folder = folder / "units"
        self.digits = len(str(max(self.units, default=0)))

    @property
    def started(self) -> bool:
        """Whether the folder holds an atlas, finished or not."""
        try:
            return read_json(self.config_file, "").get("command") == "atlas"
        except RunError:
            return False

    def check(self, *, overwrite: bool, resume: bool) -> None:
        """Raise UsageError where the folder may not be written to, before any work."""
        refuse_existing_folder(self.folder, overwrite=True)
        if self.started:
            if not (overwrite or resume):
                raise UsageError(
                    f"{self.folder}: holds an atlas already; --resume completes it, --overwrite replaces it"
                )
        elif os.path.isdir(self.folder) and not files.is_vacant(self.folder):
            raise UsageError(f"{self.folder}: is neither empty nor an atlas; name another folder")

    def require(self, record: Mapping[str, Any]) -> None:
        """Raise RunError where the folder was started with another record than `record`, as `start` takes it."""
        then, now = read_json(self.config_file, "no atlas here", CONFIG, ADVICE), json.loads(json_text(record))
        options = then["options"]
        changed = [f"{key} {options.get(key)}" for key, value in now["options"].items() if options.get(key) != value]
        changed += [name for key, name in FIXED.items() if then.get(key) != now[key]]
        if changed:
            raise RunError(
                f"{self.folder}: was started with other {', '.join(changed)}; restore them, or start from scratch with "
                "--overwrite"
            )

    def start(self, record: Mapping[str, Any]) -> None:
        """Write atlas.json into an empty folder, or in place of a former atlas, whose files are removed."""
        if self.started:
            for pattern in ("units/*.json", "units/*.png", "units/*.jpg", self.patches_file.name, self.page.name):
                for file in self.folder.glob(pattern):
                    file.unlink()
        write_json(self.config_file, record)

    def sweep(self) -> None:
        """Remove the temporary files of writes that were killed."""
        for folder in (self.folder, self.units_folder):
            files.sweep(folder)

    # -- patches --

    def write_patches(self, count: int, units: Sequence[Mapping[str, Any]]) -> None:
        """Keep what one pass over `count` images found, as `unit_patches.units_entry` gives it."""
        write_json(self.patches_file, {"images": count, "units": units})

    def patches(self) -> tuple[int, dict[int, dict[str, Any]]]:
        """(number of images, {unit: its patches}); (0, {}) where no images were searched."""
        if not os.path.isfile(self.patches_file):
            return 0, {}
        document = read_json(self.patches_file, "", PATCHES, ADVICE)
        found = {entry["unit"]: entry for entry in document["units"]}
        if absent := [unit for unit in self.units if unit not in found]:
            raise RunError(f"{self.patches_file}: cannot be read (has no unit {absent[0]}); {ADVICE}")
        return document["images"], found

    # -- units --

    def unit_file(self, unit: int, ending: str = ".json") -> Path:
        """A file of a unit in units/."""
        return self.units_folder / f"{unit:0{self.digits}d}{ending}"

    def missing(self, units: Sequence[int]) -> list[int]:
        """Those of the units that are not finished."""
        return [unit for unit in units if not os.path.isfile(self.unit_file(unit))]

    def write_unit(self, unit: int, heading: str, drawn: Sequence[Drawn], optimized: Mapping[str, Any]) -> None:
        """Write the images of a row and then its JSON, which marks the unit as finished."""
        images = []
        for image in drawn:
            file = self.unit_file(unit, f"-{image.name}")
            image_io.write(image.image, file, quality=90)
            width, height = image.image.size
            entry = {"file": f"units/{file.name}", "caption": image.caption, "ratio": round(width / height, 4)}
            images.append(entry | {"height": image.height})
        write_json(self.unit_file(unit), {"unit": unit, "heading": heading, "images": images, "optimized": optimized})

    def write_page(self, title: str, note: str, record: Mapping[str, Any]) -> None:
        """Write the page of the finished units."""
        rows = []
        for unit in self.units:
            if os.path.isfile(self.unit_file(unit)):
                entry = read_json(self.unit_file(unit), "", UNIT, "remove it, and --resume computes it again")
                rows.append(Row(unit, entry["heading"], [GalleryImage(**image) for image in entry["images"]]))
        note += "" if len(rows) == len(self.units) else f" {len(rows)} of {counted(len(self.units), 'unit')} so far."
        # The command line of the start, since that of a resumption says less
        typed = read_json(self.config_file, "no atlas here", CONFIG, ADVICE).get("command_line", "")
        gallery.write(self.page, title, rows, [option_section("atlas", record["options"]), _data(record)], note, typed)

    @property
    def outdated(self) -> bool:
        """Whether the page lacks a finished unit."""
        finished = [file.stat().st_mtime_ns for file in map(self.unit_file, self.units) if os.path.isfile(file)]
        return not os.path.isfile(self.page) or self.page.stat().st_mtime_ns < max(finished, default=0)


def _data(record: Mapping[str, Any]) -> Section:
    """The model and the images of an atlas, and the software that made it."""
    images = record["images"]
    values = {"SHA-256 of the model": record["model_hash"], "images searched": images["count"]}
    if images["count"]:
        values["SHA-256 of their names and sizes"] = images["hash"]
    return Section("Data and versions", [sections.of_values(values | dict(record["versions"]), ("", "value"))])
