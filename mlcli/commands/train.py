"""`mlcli train`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.train import TrainConfig, train
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(TrainConfig)
def run(call: Call[TrainConfig], quiet: option.Quiet = False) -> None:
    """Train a classifier from scratch on class folders.

    `mlcli finetune` starts from the weights of a model instead: --freeze none trains all its layers further.

    Images are flipped and shifted at random, and parts of them hidden, which teaches the invariances of the task. The
    run folder holds the model, the options, the metrics and a report; `--resume` continues an interrupted run to the
    same numbers, and does nothing when the run is done.
    """
    result = call.run(train)
    say(f"{result.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in result.metrics.items()))
