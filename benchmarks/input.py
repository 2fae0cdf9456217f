"""How fast training patches come, and whether the network waits for them: ratios within one run.

    python benchmarks/input.py            # about five minutes on two cores
    python benchmarks/input.py --quick    # to see that it runs; the ratios then mean little

A synthetic patch store of 224 px in 8 bits is made in a temporary folder and read once, so that its pages are in the
kernel's cache. What is compared alternates, round by round, and the medians are taken. Printed is a table with what is
required; the exit code is 1 if anything is missed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.config import AugmentationConfig, ModelConfig, TrainConfig
from mmgkeras.models.augmentation import NEGATIVE_OPS, num_positive_ops
from mmgkeras.models.network import build_network, training_model
from mmgkeras.models.optimizer import make_optimizer
from mmgkeras.patches.shards import ShardReader, ShardWriter, shard_name
from mmgkeras.pipeline.batches import training_batches
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.schema import Pixels
from mmgkeras.training.fast_layers import with_fast_layers
from mmgkeras.training.step import make_train_step

PATCH_PX = 224
STUB_RATE = 5000.0
POSITIVE_PART = 0.07
MAX_GROWTH_MIB = 32.0


class Store:
    """The shards of a folder: the part of a patch store that the pipeline uses."""

    patch_px = PATCH_PX
    pixel_type = "uint8"

    def __init__(self, folder: Path) -> None:
        """Maps what is there."""
        self.paths = sorted(folder.glob("*.npy"))
        sizes = [len(np.load(path, mmap_mode="r")) for path in self.paths]
        self.num_patches = sum(sizes)
        shape = (self.num_patches, PATCH_PX, PATCH_PX, 1)
        self._reader = ShardReader(self.paths, patches_per_shard=sizes[0], shape=shape, pixel_type="uint8")

    def gather(self, indices: NDArray[np.int64], *, out: Pixels | None = None) -> Pixels:
        """As of a patch store."""
        return self._reader.gather(indices, out=out)

    def plan(self, *, batch_size: int) -> EpochPlan:
        """Of all patches, of which the paper's part is positive."""
        num_positives = int(POSITIVE_PART * self.num_patches)
        places = np.random.default_rng(0).permutation(self.num_patches)
        return EpochPlan(
            positives=places[:num_positives],
            negatives=places[num_positives:],
            num_positive_ops=num_positive_ops(AugmentationConfig()),
            negative_ops=NEGATIVE_OPS,
            batch_size=batch_size,
            seed=0,
        )


def make_store(folder: Path, *, num_patches: int) -> Store:
    """Writes noise; no two patches are alike."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    with ShardWriter(folder, patch_px=PATCH_PX, max_bytes=2 * num_patches * PATCH_PX**2) as writer:
        for first in range(0, num_patches, 500):
            count = min(500, num_patches - first)
            writer.append(generator.integers(0, 256, (count, PATCH_PX, PATCH_PX), np.uint8))
    assert [path.name for path in folder.iterdir()] == [shard_name(0)]
    return Store(folder)


def alternate(*, rounds: int, **measure: Callable[[], float]) -> dict[str, list[float]]:
    """Measures each in turn, `rounds` times, after one round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in measure}
    for number in range(rounds + 1):
        for name, function in measure.items():
            value = function()
            if number:
                found[name].append(value)
    return found


def seconds(function: Callable[[], Any]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def gather_rates(store: Store, *, num_batches: int, rounds: int) -> tuple[float, float]:
    """Patches per second of a plain gather by numpy from the mapped file, and of the whole stream, for equal ids."""
    plan = store.plan(batch_size=128)
    places = [plan.locate(plan.ids(step).numpy())[0] for step in range(num_batches)]
    mapped = np.load(store.paths[0], mmap_mode="r")
    mapped.max()  # reads every page once

    def plain() -> None:
        for batch in places:
            mapped[batch]

    stream = training_batches(store, plan, first_step=0, last_step=num_batches)
    count = tf.function(
        lambda: stream.reduce(np.int64(0), lambda total, element: total + tf.size(element[1], tf.int64))
    )
    times = alternate(rounds=rounds, plain=lambda: seconds(plain), stream=lambda: seconds(count))
    num_patches = num_batches * 128
    return num_patches / statistics.median(times["plain"]), num_patches / statistics.median(times["stream"])


def stub_rates(store: Store, *, num_batches: int, rounds: int) -> tuple[float, float]:
    """Patches per second of a step that takes as long as 5,000 patches/s allow, alone and fed by the stream."""
    plan = store.plan(batch_size=128)
    step_s = 128 / STUB_RATE

    def pause(label: np.ndarray) -> np.ndarray:
        time.sleep(step_s)  # as it is then, see below
        return label

    # One compiled function for both, which takes the next batch inside the graph as `fit` does.
    @tf.function
    def step(iterator: Any) -> Any:
        _, label = next(iterator)
        return tf.numpy_function(pause, [label], tf.int32)

    def rate_of(batches: tf.data.Dataset) -> float:
        iterator = iter(batches)
        step(iterator)  # the first batch has nothing to hide behind
        started = time.perf_counter()
        for _ in range(num_batches):
            step(iterator)
        return time.perf_counter() - started

    def alone() -> float:
        batch = next(iter(training_batches(store, plan, first_step=0, last_step=1)))
        return rate_of(tf.data.Dataset.from_tensors(batch).repeat())

    # What the call itself takes is part of the step: without it the stub would be slower than it should.
    step_s -= alone() / num_batches - step_s

    def fed() -> float:
        return rate_of(training_batches(store, plan, first_step=0, last_step=num_batches + 1))

    times = alternate(rounds=rounds, alone=alone, fed=fed)
    num_patches = num_batches * 128
    return num_patches / statistics.median(times["alone"]), num_patches / statistics.median(times["fed"])


def network_rates(store: Store, *, batch_size: int, rounds: int) -> tuple[float, float]:
    """Patches per second of ResNet18's training step on one and the same batch, and fed by the stream."""
    plan = store.plan(batch_size=batch_size)
    plain = build_network(ModelConfig(weights="none"), patch_px=PATCH_PX, pixel_type="uint8")
    network = with_fast_layers(plain, on_processor=not tf.config.list_physical_devices("GPU"))
    model = training_model(network, AugmentationConfig())
    optimizer = make_optimizer(TrainConfig(), steps_per_epoch=plan.steps_per_epoch)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    step = make_train_step(strategy, model=model, optimizer=optimizer, batch_size=batch_size)
    stream = training_batches(store, plan, first_step=0, last_step=plan.steps_per_epoch)
    one = next(iter(stream))
    same: Iterator[Any] = iter(tf.data.Dataset.from_tensors(one).repeat())
    fed: Iterator[Any] = iter(stream)

    def run(iterator: Iterator[Any]) -> None:
        step(iterator)[0].numpy()

    times = alternate(rounds=rounds, alone=lambda: seconds(lambda: run(same)), fed=lambda: seconds(lambda: run(fed)))
    return batch_size / statistics.median(times["alone"]), batch_size / statistics.median(times["fed"])


def anonymous_mib() -> float:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no RssAnon")


def stream_memory(folder: Path, *, num_batches: int) -> float:
    """MiB of anonymous memory after the stream has given so many batches; for a process of its own."""
    store = Store(folder)
    for _ in training_batches(store, store.plan(batch_size=128), first_step=0, last_step=num_batches):
        pass
    return anonymous_mib()


def memory_growth(folder: Path, *, sizes: tuple[int, int], num_batches: int) -> tuple[float, float]:
    """MiB of anonymous memory of a stream from a small store and from a large one."""
    found = []
    for size in sizes:
        make_store(folder / f"memory-{size}", num_patches=size)
        command = [sys.executable, __file__, "--memory-of", str(folder / f"memory-{size}"), str(num_batches)]
        found.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return found[0], found[1]


def show(name: str, *, alone: float, found: float, required: float) -> bool:
    """Prints a row; whether the requirement is met."""
    ratio = found / alone
    is_met = ratio >= required
    print(f"{name:<34}{alone:>12,.1f}{found:>12,.1f}{ratio:>9.3f}{required:>10.2f}  {'met' if is_met else 'MISSED'}")
    return is_met


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller store and fewer rounds")
    parser.add_argument("--memory-of", nargs=2, metavar=("FOLDER", "BATCHES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(stream_memory(Path(arguments.memory_of[0]), num_batches=int(arguments.memory_of[1])))
        return
    quick = arguments.quick
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name) / "store", num_patches=2000 if quick else 20000)
        print(f"{'patches per second':<34}{'alone':>12}{'with input':>12}{'ratio':>9}{'required':>10}")
        plain, stream = gather_rates(store, num_batches=50 if quick else 300, rounds=3 if quick else 9)
        met = [show("stream against a plain gather", alone=plain, found=stream, required=0.5)]
        alone, fed = stub_rates(store, num_batches=40 if quick else 200, rounds=1 if quick else 5)
        met.append(show("stub of 5,000 patches/s", alone=alone, found=fed, required=0.97))
        alone, fed = network_rates(store, batch_size=8 if quick else 32, rounds=2 if quick else 25)
        met.append(show("ResNet18's training step", alone=alone, found=fed, required=0.99))
        sizes = (500, 2000) if quick else (2000, 20000)
        small, large = memory_growth(Path(name), sizes=sizes, num_batches=20 if quick else 200)
        is_flat = large - small <= MAX_GROWTH_MIB
        pixels = (sizes[1] - sizes[0]) * PATCH_PX**2 / 2**20
        print(
            f"anonymous memory, MiB: {small:,.0f} with {sizes[0]:,} patches, {large:,.0f} with {sizes[1]:,}", end="; "
        )
        print(f"the stores differ by {pixels:,.0f} {'(met)' if is_flat else '(MISSED)'}")
    sys.exit(0 if all(met) and is_flat else 1)


if __name__ == "__main__":
    main()
