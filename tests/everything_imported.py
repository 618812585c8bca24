"""What the server of tests/forks.py imports, so that its forks have it from the start."""

import mlcli.cli
from tests import killing

mlcli.cli.build()
killing.import_all()
