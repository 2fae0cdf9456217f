"""The engine ray beside the usual one, in one run: `python -m benchmarks.ray_engine --out DIR`; see docs/at-scale.md.

`prepare` of phantoms copied under other names, as `prepare_scale` makes them, and `predict` of whole phantoms: once as
they are, once on a Ray that is started on this machine, an actor for each core, of which one is killed when half of the
images are done. The files must be the same bytes. Before that, what a Ray on this machine costs: its start, one actor,
its end.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click

from benchmarks.prepare_scale import make_data
from mmgkeras.files import sha256_file
from mmgkeras.tables import read_images
from tests.processes import descendants, is_actor

_CLI = "import sys; from mmgkeras.cli import main; main(sys.argv[1:])"
_START = """
from mmgkeras.cli.workers import ray_actors
from mmgkeras.progress import untracked
assert list(ray_actors(None).map(abs, [-1], label="", track=untracked)) == [1]
"""


def run(*arguments: str, kill_when: tuple[Path, int] | None = None) -> tuple[float, bool]:
    """The seconds that a command of mmgkeras takes, and whether an actor of it was killed.

    Args:
        arguments: of the command.
        kill_when: a folder, and how many JSON files of finished images must lie below it, hidden, before an actor goes.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", _CLI, *arguments], stdout=subprocess.DEVNULL)
    killed = threading.Event()

    def watch(folder: Path, number: int) -> None:
        while process.poll() is None and not killed.is_set():
            if sum(1 for _ in folder.glob(".*.work/*.json")) >= number:
                actors = [pid for pid in descendants(process.pid) if is_actor(pid)]
                os.kill(actors[0], signal.SIGKILL)
                killed.set()
            time.sleep(0.1)

    if kill_when is not None:
        threading.Thread(target=watch, args=kill_when, daemon=True).start()
    if process.wait():
        raise SystemExit(f"{arguments[0]} failed")
    return time.perf_counter() - began, killed.is_set()


def compare(name: str, arguments: list[str], *, num_images: int, places: tuple[Path, Path], hidden: Path) -> None:
    """Runs a command both ways and prints a row of the table of each."""
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    plain_s, _ = run(*arguments, "--out", str(places[0]))
    ray_s, is_killed = run(*arguments, "--out", str(places[1]), "--engine", "ray", kill_when=(hidden, num_images // 2))
    click.echo(f"| {name} | {num_images / plain_s:.2f} | 1.00 | |")
    was = "one actor killed" if is_killed else "no actor was killed"
    is_same = digests(places[0]) == digests(places[1])
    told = "the same bytes" if is_same else "OTHER BYTES"
    click.echo(f"| {name} --engine ray, {was} | {num_images / ray_s:.2f} | {plain_s / ray_s:.2f} | {told} |")


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, but for the manifest of a store, which says when it was made."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "store.json"]
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to work in.")
@click.option("--images", "num_images", default=2000, show_default=True, help="That prepare reads.")
@click.option("--patients", default=190, show_default=True, help="Phantom patients, of 500 images in all, for predict.")
@click.option("--spacing-mm", default=0.2, show_default=True)
def main(*, out: Path, num_images: int, patients: int, spacing_mm: float) -> None:
    """Print the images a second of each way."""
    out = out.resolve()
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _START], check=True)
        click.echo(f"Python, Ray, one actor and back: {time.perf_counter() - began:.1f} s")
    data, phantoms = out / "data", out / "phantoms"
    if num_images and not data.exists():
        make_data(data, num_images=num_images, spacing_mm=spacing_mm)
    if patients and not phantoms.exists():
        run("phantom", "--out", str(phantoms), "--patients", str(patients), "--spacing-mm", str(spacing_mm))
    if num_images:
        places = (out / "store", out / "ray-store")
        compare("prepare", ["prepare", "--data", str(data)], num_images=num_images, places=places, hidden=out)
    if patients:
        places = (out / "marked", out / "ray-marked")
        number = len(read_images(phantoms / "images.csv"))
        compare(
            "predict", ["predict", str(phantoms / "images.csv")], num_images=number, places=places, hidden=places[1]
        )


if __name__ == "__main__":
    main()
