import os
import signal
from contextlib import suppress

import pytest

from mlcli.errors import Interrupted
from mlcli.runtime import signals

ENDED = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)]


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of before, put back."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield before
    signals.stop_listening()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, kind", ENDED)
def test_a_signal_is_an_exception_and_remembered(number, kind):
    signals.listen()
    with pytest.raises(kind) as ended:
        os.kill(os.getpid(), number)
    assert signals.arrived == [number]
    assert kind is KeyboardInterrupt or ended.value.code == 128 + number
    signals.stop_listening()
    assert signal.getsignal(number) == signal.SIG_DFL and signals.arrived == []


@pytest.mark.parametrize("number", signals.ENDING)
def test_a_signal_is_noted_and_handlers_are_put_back(number, handlers):
    with signals.noted() as caught:
        os.kill(os.getpid(), number)
        assert caught == [number]
    assert {each: signal.getsignal(each) for each in signals.ENDING} == handlers


@pytest.mark.parametrize("acted_on", [False, True])
def test_a_signal_that_came_with_the_last_of_the_work_is_remembered(acted_on):
    signals.outlasted.clear()
    with suppress(Interrupted), signals.noted() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        if caught and acted_on:
            raise Interrupted("", signal.SIGTERM)
    assert signals.outlasted == ([] if acted_on else [signal.SIGTERM])


def test_a_second_interrupt_breaks_off():
    with pytest.raises(KeyboardInterrupt), signals.noted() as caught:
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT]
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", signals.ENDING)
def test_an_ignored_signal_stays_ignored(number):
    """As nohup has it with SIGHUP, and a shell with SIGINT of what it starts in the background."""
    signal.signal(number, signal.SIG_IGN)
    signals.listen()
    os.kill(os.getpid(), number)
    with signals.noted() as caught:
        os.kill(os.getpid(), number)
    signals.stop_listening()
    assert caught == signals.arrived == [] and signal.getsignal(number) == signal.SIG_IGN
