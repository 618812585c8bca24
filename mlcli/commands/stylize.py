"""`mlcli stylize`"""

import typer

from mlcli.api.call import Call
from mlcli.api.stylize import StylizeConfig, stylize
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(StylizeConfig)
def run(call: Call[StylizeConfig], quiet: option.Quiet = False) -> None:
    """Paint images in the style of another.

    What the options leave open is tuned for the model. Several contents go to a folder, where a finished result newer
    than its inputs is left alone. Ctrl-C keeps what there is; the same command with --resume continues it.
    """
    if call.run(stylize).failures:
        raise typer.Exit(1)
