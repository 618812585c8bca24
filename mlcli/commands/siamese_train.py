"""`mlcli siamese-train`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.siamese_train import SiameseTrainConfig, siamese_train
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(SiameseTrainConfig)
def run(call: Call[SiameseTrainConfig], quiet: option.Quiet = False) -> None:
    """Learn from folders of images, one for each identity, whether two images show the same identity.

    The result applies to identities that were not among them. A folder of folders is a group of identities, as an
    alphabet is of characters. Some identities are held out; their pairs calibrate the threshold below which two images
    count as the same. `mlcli siamese-verify` applies the run.

    With some dozens of identities take --loss fisher: a trained network is kept, and a metric is solved for on its
    feature maps; each identity is then held out once for the threshold, and the result is fitted to all.
    """
    result = call.run(siamese_train)
    say(f"{result.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in result.metrics.items()))
