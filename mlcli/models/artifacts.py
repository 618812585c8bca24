"""Files of weights: the one format in which this tool writes them, and the one reader of it.

A file is in the safetensors format. Its metadata hold one entry, `mlcli`, a JSON object that describes the content:
`format`, the version of the description; `kind`, what the file holds; and what that kind needs to be opened again, such
as the architecture, the classes and the preprocessing. Releases before the first version wrote no `format`; their files
are read as version 0, and differ in nothing else.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mlcli.errors import MlcliError, WeightsError, reason
from mlcli.io import checkpoints, schema
from mlcli.io.schema import Check, Invalid, items, mapping, record, text
from mlcli.training.run_folder import save_tensors

FORMAT = 1
METADATA_KEY = "mlcli"
MODEL_FILE = "model.safetensors"
CLASSES = items(text(500), 0, 1_000_000)  # the labels of the classes, in the order of the outputs


@dataclass(frozen=True)
class ArtifactKind:
    """What a file of weights can hold.

    name: as its description and messages say it.
    made_by: the commands that train it.
    check: what its description must say, besides the kind itself.
    files: the names that it may have in a run folder, the preferred one first.
    """

    name: str
    made_by: str
    check: Check
    files: tuple[str, ...] = (MODEL_FILE,)


# What the file of a model says of it. The options are checked by the entry of the architecture.
MODEL_DESCRIPTION = record(
    {"architecture": text(200), "options": mapping(), "classes": CLASSES, "preprocessing": mapping()},
    {"wnids": CLASSES},
)
CLASSIFIER = ArtifactKind("classifier", "train, finetune, pretext or adapt", MODEL_DESCRIPTION)
SEGMENTER = ArtifactKind("segmenter", "adapt --task segment", MODEL_DESCRIPTION)


@dataclass(frozen=True)
class Artifact:
    """The content of a file of weights. description: empty for a file that this tool did not write."""

    file: Path
    tensors: dict[str, Tensor]
    description: dict[str, Any]

    def require(self, kind: ArtifactKind) -> None:
        """Raise WeightsError where the file holds something else, or its description is damaged."""
        found = self.description.get("kind", "file without a description")
        if found != kind.name:
            raise WeightsError(f"{self.file}: holds a {found}, not a {kind.name}, which mlcli {kind.made_by} trains")
        with self.description_checked():
            kind.check(self.description)

    @contextmanager
    def description_checked(self) -> Iterator[None]:
        """Report whatever goes wrong while the description is used as one error that names the file."""
        try:
            yield
        except WeightsError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError, MlcliError) as error:
            raise damaged(self.file, error) from None


def save(file: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors with their description, which has a `kind` and values of JSON, atomically."""
    save_tensors(file, tensors, {"format": FORMAT, **description})


def read(file: str | Path) -> Artifact:
    """The tensors of a file and its description, which is empty where this tool did not write the file.

    A safetensors file, or one that torch.save wrote, whatever its ending; of a checkpoint the tensors of its network
    (mlcli.io.checkpoints says which). No code in a file is run. Raises WeightsError.
    """
    file = Path(file)
    try:
        if file.suffix == ".safetensors" or _begins_as_safetensors(file):
            artifact = _read_safetensors(file)
        else:
            artifact = Artifact(file, checkpoints.read(file), {})
    except WeightsError:
        raise
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such file of weights") from None
    except Exception as error:  # each format has its own kinds of damage
        raise WeightsError(f"{file}: cannot be read as weights ({reason(error)}); .safetensors and .pth are") from None
    _check_version(artifact)
    return artifact


def kind_of(file: Path) -> str | None:
    """What a file says that it holds, such as "classifier", without its tensors; None for one without a description.

    Raises WeightsError for a file that is none of weights.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            description = schema.loads((opened.metadata() or {}).get(METADATA_KEY, "{}"), mapping())
    except Exception:  # each damage has an error of its own, which `read` says
        return read(file).description.get("kind")
    return None if description.get("kind") is None else str(description["kind"])


def _read_safetensors(file: Path) -> Artifact:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        description = schema.loads((opened.metadata() or {}).get(METADATA_KEY, "{}"), mapping())
        return Artifact(file, {key: opened.get_tensor(key) for key in opened.keys()}, dict(description))


def _begins_as_safetensors(file: Path) -> bool:
    """Whether a length and the brace of a JSON header come first, as in no file of torch.save."""
    with file.open("rb") as opened:
        return opened.read(9)[8:] == b"{"


def _check_version(artifact: Artifact) -> None:
    version = artifact.description.get("format", 0)
    if type(version) is not int or version < 0:
        raise damaged(artifact.file, Invalid(f"should be a version, is {schema.told(version)}", ("format",)))
    if version > FORMAT:
        raise WeightsError(
            f"{artifact.file}: is of version {version} of the format of weights, and this mlcli reads versions up to "
            f"{FORMAT}; install the mlcli that wrote it, or a newer one"
        )


def read_run(run: str | Path, kind: ArtifactKind) -> Artifact:
    """What a run folder, or a file, holds of this kind. Raises WeightsError where there is none."""
    artifact = read(locate(run, kind))
    artifact.require(kind)
    return artifact


def locate(run: str | Path, kind: ArtifactKind) -> Path:
    """The file of this kind in a run folder; a file as it is. Raises WeightsError where there is none (yet)."""
    if os.path.isdir(run):
        file = next((Path(run) / name for name in kind.files if os.path.isfile(os.path.join(run, name))), None)
        if file is not None:
            return file
        if is_run(run):
            raise no_model_yet(run)
        problem = "no run in this folder"
    elif os.path.isfile(run):
        return Path(run)
    elif Path(run).name in kind.files and is_run(Path(run).parent):
        raise no_model_yet(run)
    else:
        problem = "no such run"
    raise WeightsError(f"{run}: {problem}; name the folder of a run of mlcli {kind.made_by}, or its {kind.files[-1]}")


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds a run, with a model in it or not."""
    return os.path.isfile(os.path.join(folder, "config.json"))


def no_model_yet(run: str | Path) -> WeightsError:
    """The error of a run whose training has not ended."""
    return WeightsError(f"{run}: this run has no model yet; let its training end (--resume)")


def damaged(file: str | Path, problem: Exception | str) -> WeightsError:
    """The error of a file whose description cannot be used."""
    plain = isinstance(problem, (str, Invalid, MlcliError))
    return WeightsError(f"{file}: its description is damaged ({problem if plain else repr(problem)})")
