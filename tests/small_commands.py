"""Every command of the tool as small as it can be, over tiny files that are made here."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from mlcli.data.pairs import ImageSpec
from mlcli.methods.generation.sampling import SAMPLER
from mlcli.models import registry, translators
from mlcli.networks.dcgan import Generator
from mlcli.training import run_folder
from tests import drawn, shapes
from tests.cli import mlcli
from tests.tiny import class_folders, identities


@dataclass(frozen=True)
class Small:
    """A command line: WORDS in which {name} is a file or folder of `make`, {input} what is read and {out} the output.

    input: which of them {input} is ("" where nothing is read).  trains: a run that --resume resumes.
    makes: what {out} is: a "file", a "folder", a "run", or "" where the result is on stdout alone.
    """

    words: str
    input: str = ""
    makes: str = ""
    ending: str = ""

    @property
    def trains(self) -> bool:
        return self.makes == "run"

    def line(self, name: str, root: Path, out: Path, given: Path | None = None) -> list[str]:
        """The command line. root: where `make` has made its files. given: in place of the input."""
        paths = {path.name: path for path in root.iterdir()}
        return [
            name,
            *(word.format(**paths, input=given or root / self.input, out=out) for word in self.words.split()),
        ]


ADVERSARIAL = "--size 16 --filters 4 --discriminator-filters 4 --layers 1 --steps 2 --precision fp32"
SMALL = {
    "classify": Small("{input} --model {model}", "few"),
    "layers": Small("--model {model}"),
    "filters": Small("--model {model} -o {out}", "", "file", ".png"),
    "patches": Small("{input} --model {model} --layer conv1 --units 0 --top 2 -o {out}", "few", "folder"),
    "neighbors": Small("{query} --among {input} --model {model} -o {out}", "photos", "file", ".png"),
    "embed": Small("{input} --model {model}", "few"),
    "maximize": Small("logit:0 --model {model} --steps 1 -o {out}", "", "file", ".png"),
    "atlas": Small(
        "--model {model} --layer conv1 --units 0 --images {input} --top 2 --steps 1 -o {out}", "few", "folder"
    ),
    "explain": Small("{input} --model {model} --evaluate -o {out}", "few", "folder"),
    "equivariance": Small("{input} --model {model} --layer conv1 --points 2 -o {out}", "few", "folder"),
    "stylize": Small("{input} --style {query} --model {model} --scales 16 --steps 2 -o {out}", "query", "file", ".png"),
    "analogy": Small("{input} {query} {query} --passes 1 -o {out}", "query", "file", ".png"),
    "train": Small("{input} --model smallnet --epochs 2 --batch-size 6 --precision fp32 -o {out}", "classes", "run"),
    "finetune": Small("{input} --model {model} --precision fp32 --copies 1 -o {out}", "classes", "run"),
    "pretext": Small("{input} --model smallnet --epochs 2 --batch-size 6 --precision fp32 -o {out}", "photos", "run"),
    "siamese-train": Small(
        "{input} --steps 2 --identities 3 --images-per-identity 2 --dimension 4 --size 16 --precision fp32 -o {out}",
        "identities",
        "run",
    ),
    "siamese-verify": Small("{similarity} {input} {query}", "query"),
    "pairs": Small("{input} --make gray --size 16 -o {out}", "few", "folder"),
    "pix2pix": Small(f"{{input}} {ADVERSARIAL} -o {{out}}", "pairs", "run"),
    "cyclegan": Small(f"{{input}} {{photos}} --generator unet {ADVERSARIAL} -o {{out}}", "photos", "run"),
    "translate": Small("{translator} {input} -o {out}", "few", "folder"),
    "gan": Small(
        "{input} --steps 2 --filters 4 --latent 4 --batch-size 6 --compared 6 --precision fp32 -o {out}",
        "photos",
        "run",
    ),
    "sample": Small("{generator} -n 2 -o {out}", "", "file", ".png"),
    "adapt": Small(
        "--method adda {input} {target} --source-steps 2 --steps 2 --batch-size 6 --candidates 1 --precision fp32 "
        "-o {out}",
        "source",
        "run",
    ),
    "render": Small("digits -n 2 --size 16 -o {out}", "", "folder"),
    "segment": Small("{segmenter} {input} --evaluate {masks} -o {out}", "few", "folder"),
    "pendulum-train": Small("--episodes 1 --hidden 4 --batch-size 4 -o {out}", "", "run"),
    "pendulum-transfer": Small(
        "{policy} --mass 8 --length 4 --seeds 1 --episodes 2 -o {out}",
        "",
        "folder",
    ),
    "merge": Small("{part} -o {out}", "", "file", ".jsonl"),
    "models": Small(""),
    "export": Small("{model} --check {input} -o {out}", "few", "file", ".onnx"),
    "benchmark": Small("{model} {input} --engine torch --engine onnxruntime --rounds 1 --seconds 0", "few"),
    "doctor": Small(""),
    "docs": Small(""),
}


def make(root: Path) -> Path:
    """The files that the commands of SMALL read, all in `root`."""
    class_folders(root / "classes", per_class=6)
    (root / "photos").mkdir()
    for number, file in enumerate(sorted((root / "classes").rglob("*.png"))):
        shutil.copy(file, root / "photos" / f"{number:02d}.png")
    for folder in ("few", "masks"):
        (root / folder).mkdir()
    for name in ("00.png", "06.png", "12.png"):
        shutil.copy(root / "photos" / name, root / "few" / name)
        Image.new("L", (16, 16), 1).save(root / "masks" / name)
    shutil.copy(root / "photos" / "00.png", root / "query")
    identities(root / "identities", [f"{group}/{name}" for group in "uv" for name in "abcd"])
    drawn.write(root / "pairs", 6)
    shapes.write(root / "source", 18)
    shapes.write(root / "target", 18, 1, target=True)
    torch.manual_seed(0)
    classifier = registry.create("cifarnet", ["blue", "green", "red"], 16)
    run_folder.save_tensors(
        root / "model" / "model.safetensors", classifier.network.state_dict(), classifier.describe()
    )
    words = ("--model", root / "model", "--shard", "1/1", "--format", "jsonl", "-o", root / "part")
    mlcli("classify", root / "few", *words)
    translator = translators.create("unet", ImageSpec(), ImageSpec(), (16, 16), filters=4, norm="instance")
    translators.save(run_folder.Run(root / "translator"), {"AtoB": translator}, {"AtoB": translator.network})
    network = Generator(16, 3, 4, 4, 0)
    description = {"kind": SAMPLER.name, "options": network.options, "classes": []}
    run_folder.save_tensors(root / "generator" / "model.safetensors", network.state_dict(), description)
    mlcli(*SMALL["pendulum-train"].line("pendulum-train", root, root / "policy"))
    shapes.write_masks(root / "source-masks", 12, 1)
    shapes.write_masks(root / "target-masks", 12, 2, True)
    mlcli(*SMALL["siamese-train"].line("siamese-train", root, root / "similarity"))
    words = "--method seuda --task segment --source-steps 2 --steps 2 --batch-size 6 --source-batch-size 6 --filters 4"
    words += " --candidates 1 --precision fp32"
    mlcli("adapt", root / "source-masks", root / "target-masks", *words.split(), "-o", root / "segmenter")
    return root
