"""`mlcli cyclegan`"""

from mlcli.api.call import Call
from mlcli.api.cyclegan import CycleGANConfig, cyclegan
from mlcli.api.events import say
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(CycleGANConfig)
def run(call: Call[CycleGANConfig], quiet: option.Quiet = False) -> None:
    """Learn to translate between two sets of images without pairs, by cycle consistency.

    Both directions are learned at once: an image that is translated there and back must be what it was. The run folder
    holds both generators, for `mlcli translate --direction`, with samples and a report; `--resume` continues an
    interrupted run to the same numbers, and does nothing when the run is done.
    """
    result = call.run(cyclegan)
    say(f"{result.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in result.metrics.items()))
