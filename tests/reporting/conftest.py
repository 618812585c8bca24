import pytest


@pytest.fixture(scope="module", autouse=True)
def charts_left_out():
    """Here they are drawn, in place of the fixture of this name that leaves them out."""
