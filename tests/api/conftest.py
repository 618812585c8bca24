"""Fixtures that the tests of commands have too."""

from tests.commands.conftest import colors  # noqa: F401  a fixture
