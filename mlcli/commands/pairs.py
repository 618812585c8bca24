"""`mlcli pairs`"""

import typer

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.pairs import PairsConfig, pairs
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.counting import counted


@command(PairsConfig)
def run(call: Call[PairsConfig], quiet: option.Quiet = False) -> None:
    """Make aligned pairs of images for pix2pix, by a degradation whose inverse is to be learned.

    B/ gets the images and A/, under equal names, what --make makes of them, as PNG (TIFF stays TIFF). A pair newer
    than its image is left alone, so that the same command continues what was interrupted, and cron and make can call
    again and again.
    """
    result = call.run(pairs)
    say(f"{result.folder}: {counted(result.made, 'pair')} made, {result.current} up to date")
    if result.failures:
        raise typer.Exit(1)
