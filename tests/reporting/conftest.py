import pytest


@pytest.fixture(scope="module", autouse=True)
def drawn_charts():
    """Here charts are drawn."""
