"""A translator as an ONNX file, which other programs run without torch."""

import importlib.util
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.errors import MlcliError, UsageError
from mlcli.io.files import atomic_write
from mlcli.models.translators import Translator

NEEDED = ("onnx", "onnxruntime")
TOLERANCE = 1e-4


class Images(nn.Module):
    """The generator between images: (N, C, H, W) in [0, 1] (of maps one-hot) -> (N, C', H, W) in [0, 1]."""

    def __init__(self, translator: Translator):
        super().__init__()
        self.network, self.maps_in = translator.network, bool(translator.source.labels)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images if self.maps_in else images * 2 - 1) * 0.5 + 0.5


def export(translator: Translator, file: Path) -> float:
    """Write the generator; the largest difference of its output from the translator's, on random images.

    Input `images` and output `translated` are float32 in [0, 1]; batch, height and width are free, sides multiples of
    `translator.multiple`. Raises UsageError where a package is missing, MlcliError where the outputs differ by more
    than TOLERANCE; no file is left then.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--onnx needs {', '.join(missing)}: pip install {' '.join(missing)}")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it sends figures to its maker, and keeps files in the user's cache
    import onnxruntime

    # In plain fp32 and contiguous memory, which is what the file holds
    network = Images(translator).to("cpu").to(memory_format=torch.contiguous_format).eval()
    height, width = (max(side, translator.smallest) for side in translator.size)
    example = torch.rand(1, translator.source.width, height, width, generator=torch.Generator().manual_seed(0))
    with atomic_write(file) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's remarks on tracing; what counts is measured below
            torch.onnx.export(
                network,
                (example,),
                temporary,
                input_names=["images"],
                output_names=["translated"],
                dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in ("images", "translated")},
                dynamo=False,
            )
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        difference = 0.0
        other = torch.cat([example, example.flip(2, 3)]).repeat(1, 1, 1, 2)
        with torch.no_grad():
            for images in (example, other):
                ours = network(images)
                theirs = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
                difference = max(difference, (ours - theirs).abs().max().item())
        if not difference <= TOLERANCE:
            raise MlcliError(f"{file}: its output would differ from the generator's by {difference:.1e}; not written")
    return difference
