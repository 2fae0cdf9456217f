"""Commands that are killed, that meet a full or read-only disk, or that are given twice at once.

What existed must exist after it, old or new and whole; the same command, given again, must come to the same result; and
nothing is left over.
"""

import errno
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.campaign.interrupt import KILLED, Calls, die, failing
from benchmarks.campaign.scenarios import OUT, Scenario, hidden_files, snapshot
from benchmarks.campaign.trials import Ended, Trial, finished, run_command, start_command

_LIMITS = (0, 300, 3000, 30_000)
"""Bytes above which no file grows, as on a disk that is full."""
_REFUSALS = ("already exists", "is being written by another process")


def count_calls(scenario: Scenario, *, scratch: Path) -> tuple[int, dict[str, str]]:
    """How many file-system calls the command makes that change something, and the result."""
    with _copy(scenario, scratch) as folder, TemporaryDirectory(dir=scratch) as aside:
        counted = Path(aside) / "calls.txt"

        def run() -> None:
            calls = Calls(Path(folder), at=None, act=die)
            try:
                scenario.run()
            finally:
                number = calls.num
                counted.write_text(str(number))

        ended = _command(run, Path(folder))
        if ended.code:
            raise RuntimeError(f"{scenario.name}: fails undisturbed: {ended.output}")
        return int(counted.read_text()), snapshot(Path(folder) / OUT)


def kill_trials(scenario: Scenario, num_calls: int, result: dict[str, str], *, scratch: Path) -> Iterator[Trial]:
    """A kill before each call, or an even sample and the last ones."""
    for number in _chosen(num_calls, most=scenario.most):
        disturb = partial(_disturbed, act=die, number=number)
        yield Trial(
            f"{scenario.name}: killed before call {number} of {num_calls}",
            partial(
                _try, scenario, disturb, is_expected=lambda ended: ended.code == KILLED, result=result, scratch=scratch
            ),
        )


def disk_trials(scenario: Scenario, num_calls: int, result: dict[str, str], *, scratch: Path) -> Iterator[Trial]:
    """A call that fails for want of space or of the right to write, and files that cannot grow."""
    numbers = _chosen(num_calls, most=max(4, scenario.most // 4))
    for code in (errno.ENOSPC, errno.EROFS):
        for number in numbers:
            disturb = partial(_disturbed, act=failing(code), number=number)
            yield Trial(
                f"{scenario.name}: {errno.errorcode[code]} at call {number} of {num_calls}",
                partial(_try, scenario, disturb, is_expected=_is_told, result=result, scratch=scratch),
            )
    for limit in _LIMITS:
        yield Trial(
            f"{scenario.name}: no file above {limit} bytes",
            partial(
                _try,
                scenario,
                partial(_without_space, limit=limit),
                is_expected=_is_told,
                result=result,
                scratch=scratch,
            ),
        )


def race_trials(scenario: Scenario, result: dict[str, str], *, scratch: Path, number: int) -> Iterator[Trial]:
    """The command given twice at once."""
    for count in range(number):
        run = partial(_race, scenario, delay_s=0.02 * count, result=result, scratch=scratch)
        yield Trial(f"{scenario.name}: two at once, {20 * count} ms apart", run)


def _without_space(folder: Path, *, limit: int) -> Callable[[], object]:  # noqa: ARG001 - holds for all files
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))


def _disturbed(folder: Path, *, act: Callable[[], None], number: int) -> Callable[[], object]:
    return lambda: Calls(folder, at=number, act=act)


def _try(
    scenario: Scenario,
    disturb: Callable[[Path], Callable[[], object]],
    *,
    is_expected: Callable[[Ended], bool],
    result: dict[str, str],
    scratch: Path,
) -> str | None:
    """None if nothing was lost by the disturbance and the same command then comes to the result."""
    with _copy(scenario, scratch) as name:
        folder = Path(name)
        old = snapshot(folder / OUT)
        ended = _command(scenario.run, folder, before=disturb(folder))
        if not is_expected(ended):
            return f"ended with {ended.code}: {ended.output[-2000:]}"
        return _lost(scenario, folder, old=old, result=result) or _again(scenario, folder, result=result)


def _lost(scenario: Scenario, folder: Path, *, old: dict[str, str], result: dict[str, str]) -> str | None:
    """What of the old output is neither there, nor replaced by the new, nor set aside whole."""
    if scenario.is_resumed:
        return None
    asides = [snapshot(aside) for aside in folder.glob(f".{OUT}.*.old")]
    there = snapshot(folder / OUT)
    if old in asides or there == result:
        return None
    for name, digest in old.items():
        if there.get(name) not in (digest, result.get(name, digest)):
            return f"{name} of what was there before is lost"
    return None


def _again(scenario: Scenario, folder: Path, *, result: dict[str, str]) -> str | None:
    ended = _command(scenario.run, folder)
    if ended.code and not (ended.code == 1 and _REFUSALS[0] in ended.output):
        return f"the same command again ended with {ended.code}: {ended.output[-2000:]}"
    return _difference(scenario, folder, result=result)


def _race(scenario: Scenario, *, delay_s: float, result: dict[str, str], scratch: Path) -> str | None:
    with _copy(scenario, scratch) as name:
        folder = Path(name)
        first = start_command(scenario.run, folder=folder, before=_one_worker)
        time.sleep(delay_s)
        second = start_command(scenario.run, folder=folder, before=_one_worker)
        both = [finished(first), finished(second)]
        for ended in both:
            is_refused = ended.code == 1 and any(text in ended.output for text in _REFUSALS)
            if ended.code and not is_refused:
                return f"one ended with {ended.code}: {ended.output[-2000:]}"
        if all(ended.code for ended in both):
            return f"neither came to an end: {both[0].output[-500:]} {both[1].output[-500:]}"
        return _difference(scenario, folder, result=result)


def _difference(scenario: Scenario, folder: Path, *, result: dict[str, str]) -> str | None:
    there = snapshot(folder / OUT)
    if scenario.may_repeat:
        there = {name: digest for name, digest in there.items() if name in result}
    if there != result:
        names = sorted(name for name in {*there, *result} if there.get(name) != result.get(name))
        return f"the result differs in {', '.join(names[:5])}"
    if (folder / "bystander.txt").read_text() != "mine":
        return "a file beside the output was changed"
    left = hidden_files(folder)
    return f"left over: {', '.join(left)}" if left else None


def _is_told(ended: Ended) -> bool:
    """Whether it ended well all the same, or with lines for the user and nothing else."""
    return ended.code in (0, 1) and not ended.has_traceback and (ended.code == 0 or "error: " in ended.output)


def _command(run: Callable[[], object], folder: Path, *, before: Callable[[], object] = lambda: None) -> Ended:
    return run_command(run, folder=folder, before=lambda: (_one_worker(), before()))


def _one_worker() -> None:
    """Work in other processes would not be counted, and could not be killed with this one."""
    os.cpu_count = lambda: 1


def _chosen(number: int, *, most: int) -> Sequence[int]:
    if number <= most:
        return range(number)
    last = range(number - most // 3, number)
    step = (number - len(last)) / (most - len(last))
    return sorted({*last, *(int(place * step) for place in range(most - len(last)))})


def _copy(scenario: Scenario, scratch: Path) -> "TemporaryDirectory[str]":
    """A copy of the scenario's folder that goes when it is left."""
    copy = TemporaryDirectory(dir=scratch)
    shutil.copytree(scenario.folder, copy.name, dirs_exist_ok=True, symlinks=True)
    return copy
