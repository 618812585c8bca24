"""`mlcli atlas`"""

import typer

from mlcli.api.atlas import AtlasConfig, atlas
from mlcli.api.call import Call
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._many import taking_many

Parser = taking_many("--images")


@command(AtlasConfig)
def run(call: Call[AtlasConfig], quiet: option.Quiet = False) -> None:
    """Show what every unit of a layer responds to, on one page that opens offline.

    A row for each unit: images that maximize the neuron at the center of the map, the channel, and the channel in four
    diverse ways, and an image that minimizes it; with --images also the patches to which the unit responds most
    strongly, positively and negatively, and a spectrum from one to the other. Units are written as they are computed;
    after an interruption --resume computes those that are missing.
    """
    if call.run(atlas).failures:
        raise typer.Exit(1)
