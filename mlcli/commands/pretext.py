"""`mlcli pretext`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.pretext import PretextConfig, pretext
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.counting import counted


@command(PretextConfig)
def run(call: Call[PretextConfig], quiet: option.Quiet = False) -> None:
    """Train a network on images without labels.

    A transformation of the images makes the classes: the network learns by how much an image is rotated, or how its
    tiles are shuffled, and for that it must learn what images show. It starts from scratch or, with --pretrained, from
    the weights of a model. `mlcli finetune --model RUN` then learns from few labels. --probe measures the layers,
    beside those of an untrained network; with --resume also the layers of a finished run.
    """
    result = call.run(pretext)
    figures = "".join(f", {name} {value:.4f}" for name, value in result.metrics.items())
    if probes := result.probes:
        figures += (
            f"; with {counted(probes['labels'], 'label')} a linear probe of {probes['best layer']} has an accuracy of "
            f"{probes['accuracy']:.1%}, one of {probes['best layer of an untrained network']} of an untrained network "
            f"{probes['untrained']:.1%}"
        )
    say(f"{result.folder}: done{figures}")
