"""`mlcli pix2pix`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.pix2pix import Pix2PixConfig, pix2pix
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(Pix2PixConfig)
def run(call: Call[Pix2PixConfig], quiet: option.Quiet = False) -> None:
    """Learn to translate images from aligned pairs, by a conditional GAN.

    A/ and B/ hold the pairs under equal names (also trainA/ trainB/, train/A train/B, or files of 2:1 with both side by
    side; of another aspect ratio with --side-by-side). `mlcli pairs` makes pairs from photographs. The run folder holds
    the generator, for `mlcli translate`, with samples and a report; `--resume` continues an interrupted run to the same
    numbers, and does nothing when the run is done.
    """
    result = call.run(pix2pix)
    say(f"{result.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in result.metrics.items()))
