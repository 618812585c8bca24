"""`mlcli finetune`"""

from collections.abc import Mapping
from typing import Any

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.finetune import FinetuneConfig, finetune
from mlcli.commands import _options as option
from mlcli.commands._derived import command


@command(FinetuneConfig)
def run(call: Call[FinetuneConfig], quiet: option.Quiet = False) -> None:
    """Teach a trained network your own classes, from twenty images of each or more.

    The layers of the model are kept, and the last one is solved for the classes of DATA; with --freeze, deeper layers
    are tuned too, at lower learning rates. Estimates the accuracy on --val or by cross-validation, which tests the last
    layer alone, and shows the misclassified images. The result is a model for --model.
    """
    result = call.run(finetune)
    evaluations = "".join(f"; {name}: {_figures(entry)}" for name, entry in result.evaluations.items())
    say(f"{result.folder}: done{evaluations}")


def _figures(evaluation: Mapping[str, Any]) -> str:
    """The accuracies of an evaluation, with their intervals, in a line."""
    accuracy, balanced = (
        f"{evaluation[name]:.1%} ({low:.1%} to {high:.1%})"
        for name, (low, high) in (
            ("accuracy", evaluation["interval"]),
            ("balanced_accuracy", evaluation["balanced_interval"]),
        )
    )
    return f"accuracy {accuracy}, balanced {balanced}"
