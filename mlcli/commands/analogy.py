"""`mlcli analogy`"""

from mlcli.api.analogy import AnalogyConfig, analogy
from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(AnalogyConfig)
def run(call: Call[AnalogyConfig], quiet: option.Quiet = False) -> None:
    """Paint B_PRIME such that A is to A_PRIME as B is to it.

    Learns a filter from one example of it: A, and A' = A filtered. Or synthesizes the texture A': like the image B
    (texture-transfer), from nothing (texture-synthesis), or by a map B of colors that the map A of A' explains
    (texture-by-numbers). A and A' must be of one size, B may be of any.
    """
    result = call.run(analogy)
    width, height = result.image.size
    say(f"{result.output}: {width} x {height} pixels, mean distance of the neighborhoods {result.distance:.4f}")
