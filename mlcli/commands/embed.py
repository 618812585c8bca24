"""`mlcli embed`"""

import typer

from mlcli.api.call import Call
from mlcli.api.embed import EmbedConfig, embed
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import out_bytes


@command(EmbedConfig)
def run(call: Call[EmbedConfig], quiet: option.Quiet = False) -> None:
    """Write the feature vectors of images.

    A vector holds the values of a layer, each channel of a map averaged over its positions: what `mlcli neighbors`
    compares, for a search, a clustering or a classifier of your own. The vectors are written while they are computed,
    in memory that does not grow with the number of images. --resume resumes what was interrupted, and --shard divides
    the images among the jobs of a cluster. Images that cannot be read have an error in place of a vector, and the exit
    status is 1.
    """
    call.write = out_bytes
    if call.run(embed).failures:
        raise typer.Exit(1)
