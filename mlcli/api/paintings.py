"""Images that are painted step by step: which there are, the state beside each, snapshots, interruption."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mlcli.api.events import Progress, say
from mlcli.api.folders import up_to_date
from mlcli.api.inputs import results
from mlcli.api.outputs import record, refuse_existing, resume_command
from mlcli.counting import counted
from mlcli.errors import DataError, Interrupted, MlcliError, RunError, UsageError, reason
from mlcli.imaging import image_io
from mlcli.imaging.memory_images import MemoryImage
from mlcli.io import files, input_files, schema
from mlcli.io.checkpoints import read_state
from mlcli.io.output_paths import FolderPath, names_image
from mlcli.methods.painting.style_transfer import Progress as StyleProgress
from mlcli.methods.painting.style_transfer import Stylization
from mlcli.models.model import Model
from mlcli.runtime import signals


@dataclass(frozen=True)
class Painting:
    """One content and the image that is made of it. `alone`: -o named it, rather than a folder."""

    content: Path
    target: Path
    alone: bool

    @property
    def state_file(self) -> Path:
        """What --resume needs; here as long as the image is not finished."""
        return self.target.with_name(self.target.name + ".state")

    def wanted(
        self,
        inputs: Sequence[Path | MemoryImage],
        overwrite: bool,
        resume: bool,
        report: Callable[[Exception], None],
        *,
        snapshot_every: int | None,
    ) -> bool:
        """Whether there is work to do, before any is done.

        Raises UsageError where the image that -o names stands already; in a folder a result is left alone if it is
        newer than its inputs, and one that this tool did not make, which has no JSON beside it, goes to `report`.
        """
        started, exists = os.path.isfile(self.state_file), os.path.isfile(self.target)
        described = os.path.isfile(self.target.with_name(self.target.name + ".json"))
        if overwrite or (started and resume):
            refuse_existing(self.target, True)
            return True
        if self.alone:
            if started:
                raise UsageError(f"{self.target}: not finished; --resume resumes it, --overwrite starts from scratch")
            if exists and described and resume:
                say(f"{self.target}: done already")
                return False
            refuse_existing(self.target, False)
            refuse_existing(self.snapshot(snapshot_every) if snapshot_every else None, False)
            return True
        if not exists or started:
            return True
        if not described:
            report(UsageError(f"{self.target}: exists and is no result of this command; --overwrite replaces it"))
            return False
        return not up_to_date([self.target], [path for path in (self.content, *inputs) if isinstance(path, Path)])

    def paint(
        self,
        work: Stylization,
        model: Model,
        options: dict[str, Any],
        inputs: Sequence[Path | MemoryImage],
        *,
        resume: bool,
        snapshot_every: int | None,
        save_every: float,
    ) -> dict[str, Any]:
        """Do the work, from the saved state where there is one and `resume` is on; write the image and its record.

        Returns the record.

        Raises Interrupted after SIGINT, SIGTERM or SIGHUP, when the image so far and the state are written.
        """
        origin = {
            **{key: str(value) for key, value in options.items()},
            "model weights": model.hash,
            "images": [image_io.digest(image) for image in (self.content, *inputs)],
        }
        done = self._load(work, origin) if resume and os.path.isfile(self.state_file) else 0
        began = saved = time.monotonic()
        with signals.noted() as caught, Progress(work.total, str(self.target), start=done) as bar:
            for progress in work.steps():
                height, width = progress.size
                bar.to(progress.step, f"{width} x {height}  loss {progress.losses.total:.4g}")
                ended = progress.step == progress.steps
                if snapshot_every and progress.step % snapshot_every == 0:
                    image_io.write(work.result(), self.snapshot(progress.step), like=self.content)
                if caught and not ended:
                    image_io.write(work.result(), self.target, like=self.content)
                if not ended and (caught or time.monotonic() - saved > save_every):
                    try:
                        self._save(work, origin, progress.step)
                    except MlcliError as error:  # such as a full disk; the image can do without
                        bar.complain(error)
                    saved = time.monotonic()
                if caught and not ended:
                    raise Interrupted(self._stopped(progress), caught[0])
        if not os.path.isfile(self.state_file):
            self._save(None, origin, 0)  # says, until the JSON is written too, that what is there is not all
        image_io.write(work.result(), self.target, like=self.content)
        told = told_of(work, model, {"content": str(self.content), **options}, progress, time.monotonic() - began)
        files.write_json(self.target.with_name(self.target.name + ".json"), told)
        self.state_file.unlink(missing_ok=True)
        say(f"{self.target}: {width} x {height}, {counted(progress.steps, 'step')}, loss {progress.losses.total:.4g}")
        if caught:  # it came with the last step: this image is done, others may not be
            raise Interrupted(f"interrupted; {self.target} is finished", caught[0])
        return told

    def snapshot(self, step: int) -> Path:
        return self.target.with_name(f"{self.target.stem}-{step:05d}{self.target.suffix}")

    def _stopped(self, progress: StyleProgress) -> str:
        return (
            f"interrupted after step {progress.step} of {progress.steps}; {self.target} is what there is. "
            f"Resume with: {resume_command()}"
        )

    def _save(self, work: Stylization | None, origin: dict[str, Any], step: int) -> None:
        with files.atomic_write(self.state_file) as temporary:  # straight to the disk: it is many images large
            try:
                torch.save({"origin": origin, "step": step, "work": work and work.state_dict()}, temporary)
            except RuntimeError:  # torch does not say what the disk said
                raise MlcliError(f"{self.state_file}: cannot be written; is the disk full?") from None

    def _load(self, work: Stylization, origin: dict[str, Any]) -> int:
        """The steps done. Raises RunError for a state of other options or images, or a damaged one."""
        try:
            state = read_state(self.state_file, self.state_file)
            then = state["origin"]
            changed = [key for key in origin if then[key] != origin[key]]
            if not changed:
                if state["work"] is not None:
                    work.load_state_dict(state["work"])
                return schema.integer(0, work.total)(state["step"])
        except RunError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise RunError(f"{self.state_file}: cannot be read ({reason(error)}); --overwrite starts again") from None
        told = ", ".join(f"{key} {then[key]}" if isinstance(then[key], str) else key for key in changed)
        raise RunError(
            f"{self.target}: was started with other {told}; bring them back, or start again with --overwrite"
        )


def told_of(
    work: Stylization, model: Model, options: Mapping[str, Any], progress: StyleProgress, seconds: float
) -> dict[str, Any]:
    """What reproduces a painting, the addresses of its layers, and its last losses."""
    height, width = progress.size
    losses = progress.losses._asdict()
    addresses = {name: layer.address for name, layer in work.extractor.perception.layers.items()}
    told = {"size": [width, height], "addresses": addresses, "losses": losses, "seconds": round(seconds, 1)}
    return record("stylize", dict(options), model, **told)


def paintings(contents: Sequence[str], output: Path) -> tuple[list[Painting], list[Exception]]:
    """What to paint, and the problems met: folders that cannot be listed, results that would take one name.

    One content that is a file goes to the image `output`, unless that is a `FolderPath`. Else `output` is a folder, in
    which each result has the name of its content, below a content folder the same path. Raises UsageError, DataError.
    """
    targets, problems = results(contents, output, _writable)
    if not targets:
        raise DataError(f"{' '.join(contents)}: no images there")
    if len(targets) == 1 and not input_files.is_folder(contents[0]) and not isinstance(output, FolderPath):
        content = next(iter(targets.values()))
        image_io.output_format(output)
        _refuse_content(content, output)
        return [Painting(content, output, True)], problems
    if names_image(output):
        raise UsageError(f"{output}: {len(targets)} contents need a folder to go to, not one image; {output}/ is one")
    for target, content in targets.items():
        _refuse_content(content, target)
    return [Painting(content, target, False) for target, content in targets.items()], problems


def _writable(path: Path) -> Path:
    """The name of a result: that of its content, and .png behind one that says no format to write."""
    return path if path.suffix.lower() in image_io.WRITERS else path.with_name(path.name + ".png")


def _refuse_content(content: Path, target: Path) -> None:
    if os.path.exists(target) and os.path.exists(content) and os.path.samefile(content, target):
        raise UsageError(f"{target}: is the content itself; name another output")
