"""Every code block of the guides and of the README runs."""

import pytest

from tests.docs.examples import examples, name
from tests.docs.regenerate import GUIDES, README

EXAMPLES = examples([README, *GUIDES])


@pytest.mark.parametrize("block, index", EXAMPLES, ids=map(name, EXAMPLES))
def test_it_runs(block, index, run_example):
    run_example(block, index)
