"""`mlcli translate`"""

import typer

from mlcli.api.call import Call
from mlcli.api.translate import TranslateConfig, translate
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.errors import UsageError


@command(TranslateConfig)
def run(call: Call[TranslateConfig], quiet: option.Quiet = False) -> None:
    """Translate images with a trained generator.

    Each result has the name, the size and, where its format can, the bit depth of its image; below a folder it has
    the same path. A result of this model, newer than its image, is left alone, so that the same command continues what
    was interrupted, and cron and make can call again and again.
    """
    if bool(call.config.images) != (call.config.output is not None) or not (call.config.images or call.config.onnx):
        raise UsageError("give IMAGES and -o OUTPUT to translate images, --onnx FILE to export the generator, or both")
    if call.run(translate).failures:
        raise typer.Exit(1)
