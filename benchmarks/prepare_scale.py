"""`prepare` at scale, in one run: `python -m benchmarks.prepare_scale --out DIR`; docs/input-speed.md has the result.

Phantoms are made once and copied under other names, two pixels changed in each. Then, one after another: a plain loop
(Pillow reads, numpy cuts, one .npy each), the same with what makes its files as trustworthy as a store's (SHA-256 of
each image's pixels and of each file, which is on the disk then), and `mmgkeras prepare` with 1 and more processes,
whose stores must be equal.
With --kills, `prepare` is killed so many times on its way and given again.

Where other programs want the cores too, the processor time tells more than the clock: on two idle cores, two processes
should make twice as many images a second as their processor time allows for one.
"""

import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import Grid
from mmgkeras.sources.phantom import write_phantom
from mmgkeras.tables import read_images, write_images

PATCH_PX = 224


def make_data(folder: Path, *, num_images: int, spacing_mm: float, bits: int) -> None:
    """A data folder of so many images."""
    write_phantom(folder, num_patients=6, seed=5, spacing_mm=spacing_mm, bits=bits)
    originals = read_images(folder / "images.csv")
    records = []
    for number in range(num_images):
        source = originals[number % len(originals)]
        record = replace(source, image_id=f"i{number}", path=f"images/i{number}.png", patient_id=f"p{number // 4}")
        pixels = np.array(Image.open(folder / source.path))
        pixels[0, :2] = divmod(number, 256)
        Image.fromarray(pixels).save(folder / record.path, compress_level=3)
        records.append(record)
    (folder / "regions.csv").unlink()
    write_images(folder / "images.csv", records, overwrite=True)


def plain_loop(data: Path, out: Path, *, is_trusted: bool) -> None:
    """What a user would write: read, cut, save; and, for files to be trusted, hash and flush."""
    out.mkdir()
    digests = []
    for record in read_images(data / "images.csv"):
        pixels = np.asarray(Image.open(data / record.path))
        grid = Grid(*pixels.shape, PATCH_PX, PATCH_PX, record.chest_wall_side)
        with (out / f"{record.image_id}.npy").open("w+b") as file:
            np.save(file, grid.cut(pixels))
            if is_trusted:
                file.seek(0)
                digests += [hashlib.sha256(pixels).digest(), hashlib.file_digest(file, "sha256").digest()]
    if is_trusted:
        os.sync()


def prepare(data: Path, out: Path, *, num_workers: int, kills: int = 0) -> int:
    """Runs `prepare` in a process of its own; gives the largest sum of memory of it and its workers, in MB."""
    code = "import os, sys; os.cpu_count = lambda: int(sys.argv[1]); from mmgkeras.cli import main; main(sys.argv[2:])"
    command = [sys.executable, "-c", code, str(num_workers), "prepare", "--data", str(data), "--out", str(out)]
    most = 0
    for left in range(kills, -1, -1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        killer = threading.Timer(random.uniform(2, 6), process.kill) if left else None
        if killer:
            killer.start()
        while process.poll() is None:
            most = max(most, memory_mb(process.pid))
            time.sleep(0.2)
        if killer:
            killer.cancel()
        if process.returncode == 0 or out.exists():  # killed when all but the tidying was done
            return most
    raise SystemExit("prepare failed")


def memory_mb(pid: int) -> int:
    """The resident memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4096 // 10**6 + sum(memory_mb(int(child)) for child in children.read_text().split())
    except (OSError, IndexError):
        return 0


def cpu_of_children() -> float:
    """The processor time of all processes that have ended below this one, and were not killed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to work in.")
@click.option("--images", "num_images", default=200, show_default=True)
@click.option("--spacing-mm", default=0.1, show_default=True)
@click.option("--bits", type=click.Choice([8, 16]), default=16, show_default=True, help="Of a pixel.")
@click.option("--workers", default="1,2", show_default=True, help="Numbers of processes, one after another.")
@click.option("--kills", default=0, show_default=True, help="Of the last of them.")
def main(*, out: Path, num_images: int, spacing_mm: float, bits: int, workers: str, kills: int) -> None:
    """Print the images a second of each way."""
    data = out / "data"
    if not data.exists():
        make_data(data, num_images=num_images, spacing_mm=spacing_mm, bits=bits)
    click.echo("| | images/s | of the plain loop | processor ms an image | of the plain loop | most memory, MB |")
    plain_s = plain_cpu_s = 0.0
    for is_trusted in (False, True):
        began, began_cpu = time.perf_counter(), time.process_time()
        plain_loop(data, out / "plain", is_trusted=is_trusted)
        took_s, took_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        plain_s, plain_cpu_s = plain_s or took_s, plain_cpu_s or took_cpu_s
        shutil.rmtree(out / "plain")
        name = "plain loop, hashed and flushed" if is_trusted else "plain loop"
        speed = f"{num_images / took_s:.2f} | {plain_s / took_s:.2f}"
        click.echo(f"| {name} | {speed} | {1000 * took_cpu_s / num_images:.1f} | {took_cpu_s / plain_cpu_s:.2f} | |")
    checksums = set()
    numbers = [int(number) for number in workers.split(",")]
    for number in numbers:
        times = kills if number == numbers[-1] else 0
        began, began_cpu = time.perf_counter(), cpu_of_children()
        most = prepare(data, out / "store", num_workers=number, kills=times)
        took_s, took_cpu_s = time.perf_counter() - began, cpu_of_children() - began_cpu
        checksums.add(PatchStore.open(out / "store", verify=True).checksum)
        shutil.rmtree(out / "store")
        name = f"prepare, {number} processes{f', killed {times} times' if times else ''}"
        speed = f"{num_images / took_s:.2f} | {plain_s / took_s:.2f}"
        cpu = "|" if times else f"{1000 * took_cpu_s / num_images:.1f} | {took_cpu_s / plain_cpu_s:.2f}"
        click.echo(f"| {name} | {speed} | {cpu} | {most:,} |")
    click.echo("the same bytes" if len(checksums) == 1 else f"different stores: {checksums}")


if __name__ == "__main__":
    main()
