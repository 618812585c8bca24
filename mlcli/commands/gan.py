"""`mlcli gan`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.gan import GanConfig, gan
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(GanConfig)
def run(call: Call[GanConfig], quiet: option.Quiet = False) -> None:
    """Train a generative adversarial network on images.

    A generator learns to make images of noise that a discriminator cannot tell from the given ones. With
    --conditional it learns the classes of a folder of class folders, and makes images of the class asked for. The
    report shows the images over time, all of one fixed noise, and their Frechet and kernel distances to the data,
    which are measured in fp32 in the last hidden layer of a classifier: by default cifarnet, made for small images and
    five times as fast as efficientnet_lite0. `mlcli sample` draws images from the run.
    """
    result = call.run(gan)
    distances = (f", {name} {result.metrics[name]:.4g}" for name in ("frechet", "kernel") if name in result.metrics)
    say(f"{result.folder}: done" + "".join(distances))
