"""`mmgkeras split`: the patients of a store to subsets."""

from pathlib import Path

import click

from .console import PATH, echo

_EXAMPLES = """\b
Examples:
  mmgkeras split --store store
  mmgkeras split --store store --num-subsets 4 --seed 7 --overwrite
  mmgkeras split --store store --folds our-folds.csv
"""


@click.command(epilog=_EXAMPLES, short_help="Divide the patients of a store into subsets, one a fold.")
@click.option("--store", type=PATH, required=True, help="A patch store; folds.csv goes into it.")
@click.option("--num-subsets", type=click.IntRange(2, 26), help="As split.num_subsets.  [default: 5]")
@click.option(
    "--seed", type=click.IntRange(0), help="As split.seed: decides between equally even splits.  [default: 0]"
)
@click.option("--config", type=PATH, help="TOML file; its [split] table counts here.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Such as split.num_subsets=4; repeatable.")
@click.option("--folds", type=PATH, help="Take a folds.csv of your own: patient_id, subset (A on).")
@click.option(
    "--allow-look-alikes",
    is_flag=True,
    help="Patient ids that differ only in case, width, Unicode form, invisible characters or leading zeros are "
    "different patients.",
)
@click.option("--overwrite", is_flag=True, help="Replace folds.csv if it exists.")
def split(
    *,
    store: Path,
    num_subsets: int | None,
    seed: int | None,
    config: Path | None,
    overrides: tuple[str, ...],
    folds: Path | None,
    allow_look_alikes: bool,
    overwrite: bool,
) -> None:
    """Divide the patients into even subsets, A and on; fold k will test the k-th and train on the others.

    Patients, images and patches with and without calcification are spread evenly, and a patient is never divided.
    Prints what each subset holds, as Table 4 of the paper.
    """
    from mmgkeras.config import read_config
    from mmgkeras.patches.split import split_store
    from mmgkeras.patches.store import PatchStore
    from mmgkeras.patches.subset_counts import shared_patient_lines, subset_lines

    if folds is not None and (num_subsets is not None or seed is not None):
        raise click.UsageError("Give --folds, or --num-subsets and --seed.")
    options = {"split.num_subsets": num_subsets, "split.seed": seed}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    settings = read_config(config, overrides=[*overrides, *given]).split
    opened = PatchStore.open(store)
    assignment = split_store(opened, settings, folds=folds, allow_look_alikes=allow_look_alikes, overwrite=overwrite)
    for line in shared_patient_lines(opened):
        echo(f"note: {line}", err=True)
    for line in subset_lines(opened, assignment):
        echo(line)
