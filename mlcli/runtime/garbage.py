"""When Python looks for cyclic garbage: seldom while a command starts, as usual once it works."""

import gc

USUAL = gc.get_threshold()
AT_START = 100_000  # objects made between two collections


def collect_seldom() -> None:
    """Put collections off. Importing torch and timm makes a million objects that all stay, and looking through them
    again and again takes a tenth of the time in which one photograph is classified.
    """
    gc.set_threshold(AT_START, *USUAL[1:])


def collect_as_usual() -> None:
    """End what `collect_seldom` began, since a cycle may hold a large tensor."""
    gc.set_threshold(*USUAL)
