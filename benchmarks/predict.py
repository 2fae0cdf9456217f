"""From JPEGs to marks: ours beside PyTorch and OpenVINO on the same network, bfloat16 each.

    python benchmarks/predict.py --torch-python PYTHON_WITH_TORCH_NUMPY_AND_PILLOW --network resnet18

Each runs in a process of its own with all cores; the processes are alive together and take turns, one stream of images
after the other, so that a change of the machine's load meets all. An image is 2355 x 1315, noise on its left half and
black on its right, and has 66 patches of 224 px. "all" scores every one, "breast" leaves out those that are black
throughout. Ours is what `mmgkeras predict --bfloat16 --no-pictures` does from file to marks, by TensorFlow or with
`--engine openvino`, which scores two images at once, each core taking the next patches of either: it verifies the
file, seeks the breast and joins the marks, and reads the next image while one is scored. The others decode with Pillow
and divide with numpy, also the next image while one is scored, and score; they look neither for the breast nor for
connected marks. "openvino" runs all patches of an image at once, by OpenVINO's default hint; "openvino-streams" shares
those of one image out among the cores.

Prints as Markdown, for each image, medians of the seconds and of the processor's seconds, how many times ours these
are, and the largest difference of OpenVINO's probabilities, which has our weights. On a machine that others use,
compare the processor's seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH, PATCH_PX = 2355, 1315, 224
WAYS = ("all", "breast")
NUM_IMAGES = 4
Patches = NDArray[np.uint8]
Score = Callable[[Sequence[Path], str], Iterator[NDArray[np.float32]]]


def patches_of(path: Path) -> Patches:
    """(N, P, P) of an image, divided from its bottom left corner."""
    pixels = np.asarray(Image.open(path).convert("L"))
    rows, cols = -(-pixels.shape[0] // PATCH_PX), -(-pixels.shape[1] // PATCH_PX)
    padded = np.pad(pixels, ((rows * PATCH_PX - pixels.shape[0], 0), (0, cols * PATCH_PX - pixels.shape[1])))
    blocks = padded.reshape(rows, PATCH_PX, cols, PATCH_PX).swapaxes(1, 2)
    return np.ascontiguousarray(blocks.reshape(-1, PATCH_PX, PATCH_PX))


def marked(
    run: Callable[[Patches], NDArray[np.float32]], paths: Sequence[Path], way: str
) -> Iterator[NDArray[np.float32]]:
    """The probability of every patch, each enlarged to its pixels as a caller that marks would; reads ahead."""
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(patches_of, paths[0])
        for following in [*paths[1:], None]:
            patches = reading.result()
            if following is not None:
                reading = reader.submit(patches_of, following)
            chosen = np.ones(len(patches), bool) if way == "all" else patches.reshape(len(patches), -1).any(axis=1)
            probabilities = np.zeros(len(patches), np.float32)
            probabilities[chosen] = run(patches[chosen][..., None])
            (probabilities.repeat(PATCH_PX * PATCH_PX) >= 0.5).any()
            yield probabilities


def ours(model: Path, network: str, *, engine: str = "tensorflow") -> Score:  # noqa: ARG001 - as the others
    """What `predict` does; "all" is not told apart, for ours never scores black patches."""
    from mmgkeras.images import read_single
    from mmgkeras.inference.detection import find_marks, prepare, score
    from mmgkeras.inference.marker import AT_ONCE
    from mmgkeras.processes import Threads
    from mmgkeras.progress import untracked
    from mmgkeras.savedmodel.classifier import compute_in_bfloat16, load

    compute_in_bfloat16()
    classifier = load(model, is_folded=True)
    if engine == "openvino":
        from mmgkeras.savedmodel.openvino_engine import with_openvino

        classifier = with_openvino(classifier, in_bfloat16=True)

    at_once = AT_ONCE if engine == "openvino" else 1
    scoring = threading.Semaphore(at_once)

    def mark(path: Path) -> NDArray[np.float32]:
        single = read_single(path)
        prepared = prepare(single.mammogram, [classifier], breast=single.breast)
        with scoring:
            detection = score(prepared)
        find_marks(detection, threshold=0.5, shape=(HEIGHT, WIDTH))
        return detection.score_map.probabilities.ravel()

    def stream(paths: Sequence[Path], way: str) -> Iterator[NDArray[np.float32]]:  # noqa: ARG001
        return Threads(2 + at_once).map(mark, paths, label="mark", track=untracked)

    return stream


def openvino(model: Path, network: str, *, has_streams: bool = False) -> Score:  # noqa: ARG001
    """OpenVINO reads our SavedModel; no TensorFlow is in this process."""
    import openvino as ov

    core = ov.Core()
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "THROUGHPUT" if has_streams else "LATENCY"}
    compiled = core.compile_model(core.read_model(model), "CPU", hints)
    queue = ov.AsyncInferQueue(compiled)
    queue.set_callback(lambda request, answer: answer.append(request.get_output_tensor(0).data.copy()))

    def at_once(patches: Patches) -> NDArray[np.float32]:
        return np.concatenate([compiled([part])[0] for part in np.array_split(patches, -(-len(patches) // 64))])

    def shared(patches: Patches) -> NDArray[np.float32]:
        parts = np.array_split(patches, len(queue) * -(-len(patches) // (8 * len(queue))))
        answers: list[list[NDArray[np.float32]]] = [[] for _ in parts]
        for part, answer in zip(parts, answers, strict=True):
            queue.start_async([part], answer)
        queue.wait_all()
        return np.concatenate([answer[0] for answer in answers])

    return partial(marked, shared if has_streams else at_once)


def pytorch(model: Path, network: str) -> Score:  # noqa: ARG001
    """The same layers in PyTorch with weights of their own, by autocast and channels last."""
    import torch
    from network_torch import Network

    net = Network(network).to(memory_format=torch.channels_last).eval()

    def run(patches: Patches) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            return torch.softmax(net(torch.from_numpy(patches)), dim=1)[:, 1].float().numpy()

    return partial(marked, run)


ENGINES: dict[str, Callable[[Path, str], Score]] = {
    "ours": ours,
    "ours-openvino": partial(ours, engine="openvino"),
    "openvino": openvino,
    "openvino-streams": partial(openvino, has_streams=True),
    "pytorch": pytorch,
}


def work(engine: str, model: Path, network: str) -> None:
    """A worker: a line with paths and a way comes in, one with both kinds of seconds and probabilities goes out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    score = ENGINES[engine](model, network)
    for line in sys.stdin:
        paths, way = json.loads(line)
        start, start_busy = time.perf_counter(), time.process_time()
        *_, probabilities = score([Path(path) for path in paths], way)
        busy, seconds = time.process_time() - start_busy, time.perf_counter() - start
        answers.write(json.dumps([seconds / len(paths), busy / len(paths), probabilities.tolist()]) + "\n")
        answers.flush()


def make_model(folder: Path, network: str) -> None:
    """Exports the network with random weights and the batch-norm statistics of noise."""
    import keras

    from mmgkeras.config import ModelConfig
    from mmgkeras.models.network import build_network
    from mmgkeras.savedmodel.export import export
    from mmgkeras.savedmodel.metadata import ModelMetadata

    keras.utils.set_random_seed(0)
    net = build_network(ModelConfig(network=network, weights="none"), patch_px=PATCH_PX, pixel_type="uint8")
    metadata = ModelMetadata(
        network=network,
        patch_px=PATCH_PX,
        stride_px=PATCH_PX,
        pixel_type="uint8",
        spacing_mm=None,
        fold=1,
        test_subset="A",
        test_patients_sha256="0" * 64,
        store_checksum="0" * 64,
    )
    export(net, folder, metadata)


def make_images(folder: Path) -> list[str]:
    """The paths of JPEGs, each of a noise of its own on its left half and black on its right."""
    paths = [folder / f"{number}_L_CC.jpeg" for number in range(NUM_IMAGES)]
    for number, path in enumerate(paths):
        image = np.zeros((HEIGHT, WIDTH), np.uint8)
        image[:, : WIDTH // 2] = np.random.default_rng(number).integers(40, 256, (HEIGHT, WIDTH // 2))
        Image.fromarray(image).save(path, quality=90)
        black = np.asarray(Image.open(path)).copy()
        black[:, WIDTH // 2 + 16 :] = 0
        Image.fromarray(black).save(path, quality=90)
    return list(map(str, paths))


def main() -> None:
    """Starts the workers and lets them take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18", choices=["resnet18", "resnet50"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--worker", choices=sorted(ENGINES))
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.model, arguments.network)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model" / "1"
        make_model(model, arguments.network)
        paths = make_images(Path(folder))
        took: dict[tuple[str, str], list[tuple[float, float]]] = {}
        said: dict[str, NDArray[np.float32]] = {}
        workers = {}
        for engine in ENGINES:
            python = arguments.torch_python if engine == "pytorch" else sys.executable
            command = [python, __file__, "--worker", engine, "--model", str(model), "--network", arguments.network]
            workers[engine] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for round_ in range(-1, arguments.rounds):  # the first warms up
            for engine, worker in workers.items():
                for way in WAYS[1:] if engine.startswith("ours") else WAYS:
                    worker.stdin.write(json.dumps([paths, way]) + "\n")
                    worker.stdin.flush()
                    seconds, busy, probabilities = json.loads(worker.stdout.readline())
                    said[engine] = np.array(probabilities, np.float32)
                    if round_ >= 0:
                        took.setdefault((engine, way), []).append((seconds, busy))
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
        chosen = said["ours"] > 0
        print(f"{arguments.network}: OpenVINO differs by {np.abs(said['ours'] - said['openvino'])[chosen].max():.1e}\n")
        print_table(took)


def print_table(took: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    """Medians, and medians of the ratios within a round."""
    own = [engine for engine in ENGINES if engine.startswith("ours")]
    heads = [f"times {name}{what}" for name in own for what in ("", ", processor")]
    print(" | ".join(["| program", "patches", "seconds", "processor's", *heads]) + " |")
    print("|---" * (4 + len(heads)) + "|")
    for (engine, way), times in took.items():
        ratios = [
            statistics.median(other[kind] / mine[kind] for other, mine in zip(times, took[name, "breast"], strict=True))
            for name in own
            for kind in (0, 1)
        ]
        medians = [statistics.median(kind) for kind in zip(*times, strict=True)]
        print(" | ".join([f"| {engine}", way, *(f"{number:.2f}" for number in (*medians, *ratios))]) + " |")


if __name__ == "__main__":
    main()
