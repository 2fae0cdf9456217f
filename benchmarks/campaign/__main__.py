"""`python -m benchmarks.campaign`: runs the campaign and prints what was tried, what held and what failed.

Exits with 1 if anything failed. See docs/trust.md.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.campaign.bombs import bomb_trials
from benchmarks.campaign.damage import Part, file_parts, folder_parts, image_parts
from benchmarks.campaign.injection import injection_trials
from benchmarks.campaign.kills import count_calls, disk_trials, kill_trials, race_trials
from benchmarks.campaign.links import link_trials
from benchmarks.campaign.numbers import number_trials
from benchmarks.campaign.scenarios import Scenario, make_scenarios
from benchmarks.campaign.trials import Trial, run_trials

_OF_COMMANDS = ("kills", "disk", "races", "links")
PARTS = (*_OF_COMMANDS, "files", "images", "numbers", "bombs", "injection")
_LIMIT_S = 600
"""For a trial; it is long, for other load must fail none."""
_Group = tuple[str, list[tuple[Trial, str | None]]]


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only these; repeatable.")
@click.option("--command", "commands", multiple=True, help="Only commands whose name begins so; repeatable.")
@click.option(
    "--number", default=350, show_default=True, help="Mutations of each kind of file, damaged copies of each image."
)
@click.option("--jobs", default=2, show_default=True, help="Trials at once.")
@click.option("--seed", default=20260101, show_default=True, help="Of everything that is drawn.")
def campaign(*, parts: tuple[str, ...], commands: tuple[str, ...], number: int, jobs: int, seed: int) -> None:
    """Try to make mmgkeras lose something, crash or say a wrong thing."""
    parts = parts or PARTS
    started = time.monotonic()
    click.echo(f"seed {seed}; {jobs} trials at once")
    results: list[_Group] = []
    with TemporaryDirectory(prefix="campaign-") as name:
        scratch = Path(os.path.realpath(name))
        if set(parts) & set(_OF_COMMANDS):
            results += _processes(scratch, parts=parts, commands=commands, jobs=jobs)
        if "files" in parts:
            (scratch / "files").mkdir()
            results += _damage(
                "files", file_parts(scratch / "files", seed=seed, number=number), number=number, jobs=jobs
            )
        if "images" in parts:
            results += _damage("images", image_parts(seed=seed, number=number), number=number, jobs=jobs)
            results += _damage("images", folder_parts(seed=seed, number=number), number=number, jobs=jobs)
        makers = {"numbers": number_trials, "bombs": bomb_trials, "injection": injection_trials}
        for part in (part for part in makers if part in parts):
            results.append(_tried(part, list(makers[part](scratch)), jobs=jobs))
    failures = [f"{trial.name}: {fault}" for _, group in results for trial, fault in group if fault is not None]
    for failure in failures:
        click.echo(f"failed: {failure}\n")
    _print_table(results)
    click.echo(f"{(time.monotonic() - started) / 60:.1f} minutes")
    raise SystemExit(1 if failures else 0)


def _processes(scratch: Path, *, parts: Sequence[str], commands: Sequence[str], jobs: int) -> list[_Group]:
    """Kills, faults of the disk and races of every command that writes."""
    import mmgkeras.crossval.cross_validate
    import mmgkeras.inference.evaluate
    import mmgkeras.inference.marking
    import mmgkeras.inference.threshold
    import mmgkeras.report.report
    import mmgkeras.training.fit  # noqa: F401 - once, before the processes part

    (scratch / "setup").mkdir()
    (scratch / "trials").mkdir()
    place, results = scratch / "trials", []
    for scenario in make_scenarios(scratch / "setup", prefixes=commands):
        results += _of_scenario(scenario, parts=parts, jobs=jobs, scratch=place)
    return results


def _damage(part: str, kinds: Iterator[Part], *, number: int, jobs: int) -> list[_Group]:
    """A process for each kind; a failure for each file that was not met as it should be."""
    names, trials = [], []
    for name, run in kinds:
        names.append(name)
        trials.append(Trial(f"{part}: {name}", lambda run=run: "\n".join(run()) or None))
    results = []
    for name, (trial, fault) in zip(names, run_trials(trials, jobs=jobs, timeout_s=_LIMIT_S), strict=True):
        faults = [] if fault is None else fault.split("\n")
        group = [(trial, text) for text in faults] + [(trial, None)] * (number - len(faults))
        results.append((f"{part}: {name}", group))
        _print_row(*results[-1])
    return results


def _tried(name: str, trials: Sequence[Trial], *, jobs: int) -> _Group:
    """The trials of a part with what they gave, and the part's line."""
    began = time.monotonic()
    group = run_trials(trials, jobs=jobs, timeout_s=_LIMIT_S)
    _print_row(name, group, seconds=time.monotonic() - began)
    return name, group


def _of_scenario(scenario: Scenario, *, parts: Sequence[str], jobs: int, scratch: Path) -> list[_Group]:
    num_calls, result = count_calls(scenario, scratch=scratch)
    makers: dict[str, Callable[[], Iterator[Trial]]] = {
        "kills": lambda: kill_trials(scenario, num_calls, result, scratch=scratch),
        "disk": lambda: disk_trials(scenario, num_calls, result, scratch=scratch),
        "races": lambda: race_trials(scenario, result, scratch=scratch, number=6),
        "links": lambda: link_trials(scenario, scratch=scratch),
    }
    name = f"{scenario.name} ({num_calls} calls)"
    return [_tried(f"{part}: {name}", list(make()), jobs=jobs) for part, make in makers.items() if part in parts]


def _print_row(name: str, group: list[tuple[Trial, str | None]], *, seconds: float | None = None) -> None:
    failed = sum(fault is not None for _, fault in group)
    took = "" if seconds is None else f"  {seconds:6.1f} s"
    click.echo(f"{name:<60} tried {len(group):>5}  held {len(group) - failed:>5}  failed {failed:>3}{took}")


def _print_table(results: Sequence[_Group]) -> None:
    total = [outcome for _, group in results for outcome in group]
    failed = sum(fault is not None for _, fault in total)
    click.echo(f"{'all':<60} tried {len(total):>5}  held {len(total) - failed:>5}  failed {failed:>3}")


if __name__ == "__main__":
    campaign()
