"""Signals: each of them asks for a stop, an echo changes nothing, the third ends the process."""

import signal
import subprocess
import sys
import textwrap

import pytest

from debiaspl import signals
from debiaspl.signals import SIGNALS, StopRequest


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_is_remembered_and_its_handler_given_back(number):
    before = signal.getsignal(number)
    with StopRequest().listening() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop
        assert stop.signal == number
    assert signal.getsignal(number) == before


def test_a_doubled_signal_ends_nothing_and_the_third_one_does():
    code = """
        import signal
        from debiaspl.signals import StopRequest
        with StopRequest().listening() as stop:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            print("saved", stop.signal, flush=True)
            signal.raise_signal(signal.SIGTERM)
            print("not reached")
    """
    done = run(code)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == f"saved {int(signal.SIGTERM)}\n"
    assert done.stderr.count("SIGTERM") == 2


def test_a_late_second_signal_ends_at_once():
    code = """
        import signal
        from debiaspl import signals
        signals.DOUBLED = -1.0
        with signals.StopRequest().listening():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    """
    assert run(code).returncode == 128 + signal.SIGINT


def test_a_closed_terminal_does_not_matter():
    code = """
        import os, signal
        from debiaspl.signals import StopRequest
        os.close(2)
        with StopRequest().listening() as stop:
            signal.raise_signal(signal.SIGHUP)
            print(bool(stop))
    """
    assert run(code).stdout == "True\n"


def test_ctrl_c_ends_a_compilation_at_once_and_other_signals_wait_for_the_step():
    with StopRequest().listening() as stop:
        with pytest.raises(KeyboardInterrupt), stop.at_once(when=True):
            signal.raise_signal(signal.SIGINT)
        assert not stop
        with stop.at_once(when=False):
            signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
    with StopRequest().listening() as stop, stop.at_once(when=True):
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_a_rank_alone_waits_less_for_a_source_that_hangs(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    alone, one_of_several = StopRequest(signals.PATIENCE_ALONE), StopRequest(signals.PATIENCE)
    for stop in (alone, one_of_several):
        stop.request()
    now[0] += 10
    assert alone.is_overdue()
    assert not one_of_several.is_overdue()
