"""`mlcli merge`"""

from mlcli.api.call import Call
from mlcli.api.merge import MergeConfig, merge
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import say
from mlcli.counting import counted


@command(MergeConfig)
def run(call: Call[MergeConfig], quiet: option.Quiet = False) -> None:
    """Join the parts that a command wrote with --shard.

    The result is what one process writes without --shard, byte for byte. Parts that are missing, incomplete or of
    another command are named, and nothing is written then.
    """
    merged = call.run(merge)
    say(f"{merged.file}: {counted(merged.images, 'image')}, {counted(merged.errors, 'error')}", quiet)
