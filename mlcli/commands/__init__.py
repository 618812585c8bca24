"""One file per command: options -> configuration -> method -> report. COMMANDS is the only list of them."""

from typing import NamedTuple


class Command(NamedTuple):
    name: str
    module: str  # in mlcli.commands; its function `run` is the command
    panel: str
    example: str  # shown by `mlcli --help`


COMMANDS = (
    Command("classify", "classify", "Look inside", "mlcli classify photos/"),
    Command("layers", "layers", "Look inside", "mlcli layers --model resnet50"),
    Command("filters", "filters", "Look inside", "mlcli filters -o filters.png"),
    Command("patches", "patches", "Look inside", "mlcli patches photos/ --layer conv3 --units 0-15 -o patches"),
    Command("neighbors", "neighbors", "Look inside", "mlcli neighbors cat.jpg --among photos/ -o neighbors.png"),
    Command("embed", "embed", "Look inside", "mlcli embed photos/ -o vectors.parquet"),
    Command("maximize", "maximize", "Look inside", "mlcli maximize logit:goldfish -o goldfish.png"),
    Command("atlas", "atlas", "Look inside", "mlcli atlas --layer conv4 --images photos/ -o atlas"),
    Command("explain", "explain", "Look inside", "mlcli explain photos/ -o why"),
    Command("equivariance", "equivariance", "Look inside", "mlcli equivariance photos/ -o equivariance"),
    Command("stylize", "stylize", "Paint", "mlcli stylize cat.jpg --style swirls.jpg -o painted.png"),
    Command("analogy", "analogy", "Paint", "mlcli analogy photo.jpg painted.jpg other.jpg -o other-painted.png"),
    Command("train", "train", "Learn", "mlcli train cifar10/train --val cifar10/test -o runs/cifar"),
    Command("finetune", "finetune", "Learn", "mlcli finetune horses/ -o runs/horses"),
    Command("pretext", "pretext", "Learn", "mlcli pretext photos/ -o runs/unlabeled"),
    Command("siamese-train", "siamese_train", "Learn", "mlcli siamese-train faces/ --loss fisher --flip -o runs/faces"),
    Command("siamese-verify", "siamese_verify", "Learn", "mlcli siamese-verify runs/faces one.jpg other.jpg"),
    Command("pairs", "pairs", "Translate", "mlcli pairs photos/ --make edges -o edges2photos"),
    Command("pix2pix", "pix2pix", "Translate", "mlcli pix2pix facades/ -o runs/facades"),
    Command("cyclegan", "cyclegan", "Translate", "mlcli cyclegan horses/ zebras/ -o runs/zebras"),
    Command("translate", "translate", "Translate", "mlcli translate runs/facades maps/ -o facades"),
    Command("gan", "gan", "Translate", "mlcli gan cifar10/train --flip -o runs/objects"),
    Command("sample", "sample", "Translate", "mlcli sample runs/objects -n 64 -o samples.png"),
    Command(
        "adapt", "adapt", "Adapt", "mlcli adapt --method adda mnist/train usps/train --test usps/test -o runs/usps"
    ),
    Command("render", "render", "Adapt", "mlcli render digits -o digits"),
    Command("segment", "segment", "Adapt", "mlcli segment runs/scanner-b scans/ -o masks"),
    Command("pendulum-train", "pendulum_train", "Control", "mlcli pendulum-train -o runs/small"),
    Command(
        "pendulum-transfer",
        "pendulum_transfer",
        "Control",
        "mlcli pendulum-transfer runs/small --mass 8 --length 4 -o large",
    ),
    Command("merge", "merge", "Check", "mlcli merge part-*.jsonl -o labels.jsonl"),
    Command("models", "models", "Check", "mlcli models"),
    Command("export", "export", "Check", "mlcli export runs/horses -o horses.onnx"),
    Command("benchmark", "benchmark", "Check", "mlcli benchmark resnet50 photos/"),
    Command("doctor", "doctor", "Check", "mlcli doctor"),
    Command("docs", "docs", "Check", "mlcli docs stylize"),
)
