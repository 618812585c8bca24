"""`mlcli sample`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.sample import SampleConfig, sample
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.counting import counted


@command(SampleConfig)
def run(call: Call[SampleConfig], quiet: option.Quiet = False) -> None:
    """Draw images from a generator that `mlcli gan` trained.

    Into an image they come as a grid, those of a conditional generator with a row for each class; into a folder one
    by one, in class folders. With --interpolate each row goes in equal steps from one random point of the latent space
    to another.
    """
    result = call.run(sample)
    say(f"{result.output}: {counted(result.number, 'image')}")
