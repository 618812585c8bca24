"""`mlcli patches`"""

import typer

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.patches import PatchesConfig, patches
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.counting import counted


@command(PatchesConfig)
def run(call: Call[PatchesConfig], quiet: option.Quiet = False) -> None:
    """Show the patches of images that units respond to.

    Finds for each unit the patches with its greatest values, those with small positive and small negative values, and
    those with its least values, measured before the ReLU, with at most one patch per image in each group. A patch is
    the receptive field of the unit, cut out of the image file. Writes an image for each layer (several where there are
    many units) and patches.json with file, value, position and box of each patch. --layer can be given several times;
    all layers are searched in one pass.
    """
    result = call.run(patches)
    drawn = ", ".join(f"{counted(len(found.units), 'unit')} of {name}" for name, found in result.layers.items())
    say(f"{result.folder}: {drawn} over {counted(result.count, 'image')}")
    if result.failures:
        raise typer.Exit(1)
