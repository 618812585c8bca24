"""`mlcli render`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.render import RenderConfig, render
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.counting import counted


@command(RenderConfig)
def run(call: Call[RenderConfig], quiet: option.Quiet = False) -> None:
    """Draw labeled images: digits, or organs with their masks.

    digits: FOLDER/0 to FOLDER/9, in strokes of varied shape and slant, bright on dark: by a pen (style a) or in pale
    hairlines (b). organs: FOLDER/images and FOLDER/masks under equal names, chests as one of two scanners shows them.
    One seed gives both styles the same shapes, so that their appearance alone differs. Without --fonts the images are
    the same on every machine.
    """
    result = call.run(render)
    say(
        f"{result.folder}: {counted(result.count, 'image')} of {call.config.what}, {result.size} x {result.size} pixels"
    )
