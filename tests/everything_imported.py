"""What the server of tests/forks.py imports, so that its forks have it from the start; their reports have no charts."""

import mlcli.cli
from tests import killing, quick_charts

mlcli.cli.build()
killing.import_all()
CHARTS = quick_charts.left_out()  # kept: a context that nobody holds ends at once
CHARTS.__enter__()
