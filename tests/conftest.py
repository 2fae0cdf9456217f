"""Fixtures of all tests, and the comparison of the skipped ones with tests/expected_skips.txt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
NEEDS_SHARED_DATA = "needs ../shared/data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real mammograms and annotation files beside the project; the test skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{NEEDS_SHARED_DATA}: real mammograms that are not part of the project")
    return SHARED_DATA


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--expected-skips", type=Path, help="fail if other tests are skipped than this file lists")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compares in the process that collects all reports, not in the workers of xdist."""
    listed = session.config.getoption("--expected-skips")
    if listed is not None and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(SkipComparison(listed), "skip-comparison")


class SkipComparison:
    """Fails a run that is green because something was skipped that should not be."""

    def __init__(self, listed: Path) -> None:
        self.expected = set(_expected_skips(listed))
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped != self.expected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in sorted(self.skipped - self.expected):
            terminalreporter.write_line(f"skipped, but not in the list of expected skips: {nodeid}")
        for nodeid in sorted(self.expected - self.skipped):
            terminalreporter.write_line(f"in the list of expected skips, but not skipped: {nodeid}")
        terminalreporter.write_line(f"skipped {len(self.skipped)}, expected {len(self.expected)}")


def _expected_skips(listed: Path) -> Iterator[str]:
    """The tests that must be skipped here: none of a condition that is met."""
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        condition, _, nodeid = line.partition(": ")
        if condition != NEEDS_SHARED_DATA or not nodeid:
            raise pytest.UsageError(f"{listed}:{number}: must read '{NEEDS_SHARED_DATA}: TEST'. Received: {line!r}")
        if not SHARED_DATA.is_dir():
            yield nodeid
