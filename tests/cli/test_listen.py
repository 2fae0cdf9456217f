import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mmgkeras.cli import main

from mmgkeras.pacs import listener
from mmgkeras.pacs.listener import ListenOptions

Log = Callable[[str], None]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Puts back what the command does to signals."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_options_reach_the_listener_and_a_signal_ends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    given: list[ListenOptions] = []

    def listen(options: ListenOptions, *, stop: threading.Event, log: Log, ready: Callable[[int], None]) -> None:
        given.append(options)
        ready(4711)
        warnings.warn("Invalid value for VR DA: 'SECRET'", stacklevel=1)
        os.kill(os.getpid(), number)
        assert stop.wait(10)

    monkeypatch.setattr(listener, "listen", listen)
    arguments = ["--send-to", "ARCHIVE@pacs:104", "--title", "ME", "--caller", "A", "--caller", "B", "--result", "sr"]
    arguments += ["--model", str(tmp_path), "--spool", str(tmp_path / "spool"), "--limit", "7", "--threshold", "0.5"]
    result = CliRunner().invoke(main, ["listen", *arguments])
    assert result.exit_code == 0, result.output
    (options,) = given
    assert (str(options.send_to), options.title, options.callers) == ("ARCHIVE@pacs:104", "ME", ("A", "B"))
    assert (options.host, options.port, options.limit) == ("127.0.0.1", 11112, 7)
    assert (options.threshold, options.kinds, options.model) == (0.5, ("sr",), tmp_path)
    started, ended = result.stderr.splitlines()
    assert started.endswith("ME listens at 127.0.0.1:4711, results go to ARCHIVE@pacs:104")
    assert ended.endswith(" ended")


def test_all_results_are_sent_by_default() -> None:
    assert ListenOptions.__dataclass_fields__["kinds"].default == ("sc", "seg", "sr")


def test_a_wrong_node_is_one_line() -> None:
    result = CliRunner().invoke(main, ["listen", "--send-to", "pacs:104"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a DICOM node must be TITLE@HOST:PORT")
    assert len(result.stderr.splitlines()) == 1


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mmgkeras.pacs.listener")
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    result = CliRunner().invoke(main, ["listen", "--send-to", "A@pacs:104"])
    assert result.exit_code == 1
    assert "listen needs pynetdicom" in result.stderr
    assert "mmgkeras[pacs]" in result.stderr
