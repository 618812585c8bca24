"""`mlcli maximize`"""

import typer

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.invert import InvertedImages
from mlcli.api.maximize import MaximizeConfig, maximize
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(MaximizeConfig)
def run(call: Call[MaximizeConfig], quiet: option.Quiet = False) -> None:
    """Make the image that a unit, a layer or a class responds to most strongly.

    An objective is a sum of addresses with weights: a channel (conv4:12), a neuron (conv4:12@center, conv4:12@2,5), a
    whole layer (conv3, DeepDream), a class (logit:tiger), penalties (tv, l1, l2, blur) and the similarity of the images
    of a --batch, as in "conv4:12 + 0.5*conv5:7 - diversity(conv4)". Several units (conv4:0-15, logit:0-9, conv2:all)
    make a grid. One that begins with a minus stands in parentheses: "(-conv4:12)".

    Of an image larger than the model's own size, a channel sees the whole. A class sees windows of the model's own size
    at random positions, and the image grows to its full size in octaves, so that one large object fills it.

    --invert IMAGE shows instead what is left of an image at each --layer: an image that has the same values there.
    """
    result = call.run(maximize)
    if isinstance(result, InvertedImages):
        say(f"{result.output}: " + ", ".join(f"{each.layer} {each.psnr:.1f} dB" for each in result.layers))
        return
    first, others = result.images[0], len(result.images) - 1
    more = f" and {others} more" if others else ""
    say(f"{result.output}: {first.objective} = {first.value:.4g}{more}")
    if result.failures:
        raise typer.Exit(1)
