"""The situations of bug_reports.py, by the sections in which they were found; each in an empty folder of its own."""

from tests.benchmarks.situations import images, messages_and_damage, streams_and_names  # noqa: F401  they register them
