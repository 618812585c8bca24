"""Every code block of the guides, of the README and of the page of the samples runs."""

import pytest

from tests.docs.examples import examples, name
from tests.docs.regenerate import GUIDES, README, SAMPLES

EXAMPLES = examples([README, SAMPLES, *GUIDES])


@pytest.mark.parametrize("block, index", EXAMPLES, ids=map(name, EXAMPLES))
def test_it_runs(block, index, run_example):
    run_example(block, index)
