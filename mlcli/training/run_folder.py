"""The run folder: what training writes, and what resume reads.

RUN/
  config.json        format version, every option, seed, versions, data summaries; in the end, that the run is finished
  model.safetensors  the result, self-describing; translator.safetensors, the generator of an adaptation, beside it
  state/             step-NNNNNNNN.HASH.pt, the last two
  metrics.jsonl      one line per logged step
  samples/           images by step
  results.json       final measurements, of commands that measure more than the curves
  misclassified.png  misclassified images of a classifier, with a JSON beside it
  domains.json       images of both domains of an adaptation as points of a plane
  report.html        one offline page

A run that consists of several runs holds them as parts, run folders inside its own: seed-N/STAGE, baseline, or the
methods of an adaptation, each with its own stages.
"""

import hashlib
import io
import json
import math
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mlcli
from mlcli.errors import RunError
from mlcli.io import schema
from mlcli.io.checkpoints import read_state
from mlcli.io.descriptors import Descriptor
from mlcli.io.files import (
    atomic_write,
    cannot_be_written,
    check_writable,
    is_no_folder,
    is_vacant,
    sweep,
    write_json,
)

KEPT_STATES = 2
# Of config.json, metrics.jsonl, results.json and the states. 1 (without a number): options and metrics by other names.
FORMAT = 2
OF_THIS_TOOL = schema.record({"versions": schema.mapping()})
COMMAND_LINE = 1 << 24  # characters, for a shell may have put in the names of many files
FIGURES = schema.mapping(schema.optional(schema.number()))
CONFIG = schema.record(
    {"command": schema.text(200), "options": schema.mapping(), "versions": schema.mapping(schema.text(200))},
    {
        "command_line": schema.text(COMMAND_LINE),
        "data": schema.mapping(schema.record({}, {"count": schema.integer(0, 1 << 62), "hash": schema.text()})),
        "part": schema.boolean,
        "format": schema.integer(1, 1 << 31),
        "finished": schema.record({"inputs": schema.text(64), "metrics": FIGURES}),
    },
)
CONFIG_ADVICE = "bring back the file as it was, or start again with --overwrite"
LINE = schema.record({"step": schema.integer(0, 1 << 62)})  # a line of metrics.jsonl, which holds figures too


class Run:
    """One run folder, which only the main process of a group writes to.

    is_part: whether it belongs to the run in a folder above it; see `part`.
    """

    def __init__(self, folder: str | Path, *, is_part: bool = False) -> None:
        self.folder, self.is_part = Path(folder), is_part
        self.config_file = self.folder / "config.json"
        self.model_file = self.folder / "model.safetensors"
        self.translator_file = self.folder / "translator.safetensors"  # where the model is not all of the result
        self.metrics_file = self.folder / "metrics.jsonl"
        self.results_file = self.folder / "results.json"
        self.misclassified_file = self.folder / "misclassified.png"
        self.misclassified_record = self.folder / "misclassified.png.json"
        self.domains_file = self.folder / "domains.json"
        self.report_file = self.folder / "report.html"
        self.state_folder = self.folder / "state"
        self.samples_folder = self.folder / "samples"
        self.domains_image = self.samples_folder / "domains-before-and-after.png"

    def exists(self) -> bool:
        """Whether a run of this tool was begun here; other tools have a config.json too."""
        try:
            return "mlcli" in read_json(self.config_file, "", OF_THIS_TOOL)["versions"]
        except RunError:
            return False

    def check_free(self, overwrite: bool) -> None:
        """Raise RunError where the folder holds something that a new run must not touch.

        With `overwrite` a former run may be replaced; a folder that is no run is never emptied.
        """
        if is_no_folder(self.folder):
            raise RunError(f"{self.folder}: is a file; name a folder for the run")
        if self.exists():
            if not overwrite:
                raise RunError(f"{self.folder}: holds a run already; --resume resumes it, --overwrite discards it")
        elif os.path.isdir(self.folder) and not is_vacant(self.folder):
            raise RunError(f"{self.folder}: is neither empty nor a run; name another folder")

    def check_writable(self) -> None:
        """Raise MlcliError where a file of the run could not be written. Called before the work."""
        check_writable(self.config_file)
        for folder in (self.state_folder, self.samples_folder):
            check_writable(folder / "any", folder)

    def sweep(self) -> None:
        """Remove what killed processes have left: temporary files, and a state beyond those that are kept."""
        for folder in (self.folder, self.state_folder, self.samples_folder):
            sweep(folder)
        self._drop_stale_states()

    def create(self, config: Mapping[str, Any]) -> None:
        """Begin a run here. The files of a former run are removed; `check_free` has been called before."""
        if self.exists():
            try:
                self._clear()
            except OSError as error:
                raise cannot_be_written(error.filename or self.folder, error) from error
        part = {"part": True} if self.is_part else {}
        write_json(self.config_file, {"format": FORMAT, **config, **part, "versions": versions()})

    def part(self, *names: str) -> "Run":
        """A run inside this one that belongs to it: replacing this run removes it too."""
        return Run(self.folder.joinpath(*names), is_part=True)

    def parts(self) -> list["Run"]:
        """The runs in this folder that belong to this run."""
        files = (*self.folder.glob("*/config.json"), *self.folder.glob("seed-*/*/config.json"))
        return [Run(file.parent, is_part=True) for file in files if _is_of_part(file)]

    def _clear(self) -> None:
        """Remove the files that this run and its parts wrote, and no file that somebody else put beside them."""
        # config.json stays until the new one replaces it, so that an interrupted removal can be repeated.
        for pattern in (
            "state/step-*.pt",
            "state/*.safetensors",
            "candidates/step-*.safetensors",
            "samples/*.png",
            "tensorboard/*",
            "metrics.jsonl",
            "results.json",
            "misclassified.png",
            "misclassified.png.json",
            "domains.json",
            "report.html",
            "model.safetensors",
            "translator.safetensors",
        ):
            for file in self.folder.glob(pattern):
                file.unlink()
        self.sweep()
        for part in self.parts():
            part._clear()
            part.config_file.unlink()
            for folder in (*part.folder.glob("*/"), part.folder):
                with suppress(OSError):  # it is not empty: it holds files of others
                    folder.rmdir()

    def require_format(self) -> None:
        """Raise RunError where the run was begun by a version of mlcli that names options and metrics differently."""
        config = self.load_config()
        if (found := config.get("format", 1)) != FORMAT:
            raise RunError(
                f"{self.folder}: a run of format {found}, and this version of mlcli resumes format {FORMAT}; its model "
                "can be used as it is; resume it with the version that began it, or start another run with "
                "--overwrite or another -o"
            )

    def load_config(self) -> dict[str, Any]:
        """The content of config.json. Raises RunError where there is no run or its config cannot be read."""
        return read_json(self.config_file, "no run here (config.json is missing)", CONFIG, CONFIG_ADVICE)

    # -- state -------------------------------------------------------------------------------------------

    def save_state(self, step: int, state: Mapping[str, Any]) -> None:
        """Write everything that a resume needs after `step` steps; remove all but the last two states."""
        buffer = io.BytesIO()
        torch.save(dict(state, step=step), buffer)
        content = buffer.getvalue()
        # The digest in the name tells a torn file from a whole one.
        name = f"step-{step:08d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
        with atomic_write(self.state_folder / name) as temporary:
            temporary.write_bytes(content)
        self._drop_stale_states()

    def _drop_stale_states(self) -> None:
        for stale in self._states()[KEPT_STATES:]:
            stale.unlink(missing_ok=True)

    def load_state(self) -> dict[str, Any] | None:
        """The newest whole state, on the CPU; None where training has not saved one yet.

        Raises RunError where there are states and none is whole.
        """
        states = self._states()
        for file in states:
            try:
                content = file.read_bytes()
            except OSError:
                continue
            if hashlib.sha256(content).hexdigest()[:16] == file.name.split(".")[1]:
                return _state(content, file)
        if states:
            raise RunError(f"{self.state_folder}: none of the saved states is whole; start again with --overwrite")
        return None

    def _states(self) -> list[Path]:
        return sorted(self.state_folder.glob("step-*.pt"), reverse=True)

    # -- metrics -----------------------------------------------------------------------------------------

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Append the figures of a step to metrics.jsonl: the whole line, or MlcliError where it cannot be written."""
        text = json.dumps({"step": step, **{k: _finite(v) for k, v in values.items()}}) + "\n"
        try:
            opened = os.open(self.metrics_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            with Descriptor(opened, closefd=True) as file:
                before = os.fstat(opened).st_size
                try:
                    file.write(text.encode())
                except OSError:
                    with suppress(OSError):  # a device cannot be truncated
                        os.ftruncate(opened, before)
                    raise
        except OSError as error:
            raise cannot_be_written(self.metrics_file, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """All logged lines, {"step": …, figure: number or None}. Incomplete and invalid lines are left out."""
        if not os.path.exists(self.metrics_file):
            return []
        return [line for line in map(_line, self._logged().splitlines()) if line is not None]

    def _logged(self) -> str:
        """The text of the metrics. Raises RunError where the file cannot be read."""
        try:
            return self.metrics_file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise RunError(f"{self.metrics_file}: cannot be read ({error.strerror or error})") from None

    def rewind_metrics(self, step: int) -> int:
        """Remove what was logged after `step`, which a resumed run logs again.

        Returns the number of unreadable lines before the last one, which are removed too.
        """
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        logged = self._logged() if os.path.exists(self.metrics_file) else None
        if logged == "".join(kept):
            return 0
        lost = sum(_line(line) is None for line in (logged or "").splitlines()[:-1])
        with atomic_write(self.metrics_file) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
        return lost

    # -- results -----------------------------------------------------------------------------------------

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write the final measurements."""
        write_json(self.results_file, dict(results))

    def results(self, check: schema.Check = schema.OBJECT) -> dict[str, Any]:
        """The final measurements; empty where they are still missing. check: what the command requires of them."""
        if not os.path.exists(self.results_file):
            return {}
        return read_json(self.results_file, "", check, "remove the file, and the same command with --resume measures")


def _line(text: str) -> dict[str, Any] | None:
    """A line of the metrics; None if it is invalid."""
    try:
        return LINE(schema.loads(text, FIGURES))
    except schema.Invalid:
        return None


def _state(content: bytes, file: Path) -> dict[str, Any]:
    """The state in a file. Raises RunError where its content is no state of a run."""
    state = read_state(io.BytesIO(content), file)
    try:
        return schema.record({"step": schema.integer(0, 1 << 62)})(state)
    except schema.Invalid as error:
        raise RunError(f"{file}: is no state of a run ({error}); remove it, or start again with --overwrite") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors as safetensors with a description (JSON values) in the metadata, atomically."""
    from safetensors.torch import save

    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One metadata entry: safetensors does not keep the order of several, and the same run writes the same bytes.
    content = save(whole, metadata={"mlcli": json.dumps(description, sort_keys=True)})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _is_of_part(config_file: Path) -> bool:
    """Whether a file is the config.json of a part of a run, rather than that of a run or of another tool."""
    try:
        config = read_json(config_file, "")
    except RunError:
        return False
    return isinstance(config, dict) and config.get("part") is True


def read_json(path: Path, absent: str, check: schema.Check = schema.OBJECT, advice: str = "") -> dict[str, Any]:
    """The JSON object in a file, checked by `check`.

    Raises RunError: with the text `absent` where the file is missing, else with what is wrong and `advice`, which says
    what to do about a damaged file.
    """
    try:
        return schema.read_json(path, check)
    except FileNotFoundError:
        raise RunError(f"{path.parent}: {absent}") from None
    except (OSError, schema.Invalid) as error:
        problem = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be read ({problem})" + (f"; {advice}" if advice else "")) from None


def versions() -> dict[str, str]:
    """The versions of the software that a figure depends on."""
    return {"mlcli": mlcli.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _finite(value: Any) -> Any:
    """A logged value as JSON can hold it: None for numbers that are not finite."""
    value = value.item() if isinstance(value, Tensor) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
