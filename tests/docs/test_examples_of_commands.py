"""Every code block of the pages of commands runs."""

import pytest

from tests.docs.examples import examples, name
from tests.docs.regenerate import OF_COMMANDS

EXAMPLES = examples(OF_COMMANDS)


@pytest.mark.parametrize("block, index", EXAMPLES, ids=map(name, EXAMPLES))
def test_it_runs(block, index, run_example):
    run_example(block, index)
