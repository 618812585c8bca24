"""`mlcli filters`"""

from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.api.filters import FiltersConfig, filters
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.counting import counted


@command(FiltersConfig)
def run(call: Call[FiltersConfig], quiet: option.Quiet = False) -> None:
    """Draw the kernels of a convolution.

    The kernels of the first layer are drawn in color, edges by orientation before colors by hue, each scaled on its own
    and labeled with its unit. A deeper layer shows the kernel of one unit, as in --layer conv4:12 (default 0): a gray
    tile for each channel of its input, the strongest first.

    The default model is cifarnet: edges and colors can be seen in 7x7 kernels, and hardly in 3x3 ones.
    """
    sheet = call.run(filters)
    unit = "" if sheet.unit is None else f", unit {sheet.unit}"
    say(f"{sheet.output}: {counted(len(sheet.units), 'kernel')} of {sheet.address}{unit}")
