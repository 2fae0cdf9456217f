"""From a JPEG to marks: ours beside PyTorch and OpenVINO on the same network, bfloat16 each.

    python benchmarks/predict.py --torch-python PYTHON_WITH_TORCH_NUMPY_AND_PILLOW --network resnet18

Each runs in a process of its own with all cores; the processes are alive together and take turns, image by image, so
that a change of the machine's load meets all. An image is 2355 x 1315, noise on its left half and black on its right,
and has 66 patches of 224 px. "all" scores every one, "breast" leaves out those that are black throughout. Ours is what
`mmgkeras predict --bfloat16` does from file to marks, by TensorFlow or with `--engine openvino`. The others decode with
Pillow, divide with numpy and score; they look neither for the breast nor for connected marks. Prints medians and ratios
as Markdown, with the largest difference of OpenVINO's probabilities, which has our weights.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH, PATCH_PX = 2355, 1315, 224
WAYS = ("all", "breast")
Patches = NDArray[np.uint8]
Score = Callable[[Path, str], NDArray[np.float32]]


def patches_of(path: Path) -> Patches:
    """(N, P, P) of an image, divided from its bottom left corner."""
    pixels = np.asarray(Image.open(path).convert("L"))
    rows, cols = -(-pixels.shape[0] // PATCH_PX), -(-pixels.shape[1] // PATCH_PX)
    padded = np.pad(pixels, ((rows * PATCH_PX - pixels.shape[0], 0), (0, cols * PATCH_PX - pixels.shape[1])))
    blocks = padded.reshape(rows, PATCH_PX, cols, PATCH_PX).swapaxes(1, 2)
    return np.ascontiguousarray(blocks.reshape(-1, PATCH_PX, PATCH_PX))


def marked(run: Callable[[Patches], NDArray[np.float32]], path: Path, way: str) -> NDArray[np.float32]:
    """The probability of every patch, each enlarged to its pixels as a caller that marks would."""
    patches = patches_of(path)
    chosen = np.ones(len(patches), bool) if way == "all" else patches.reshape(len(patches), -1).any(axis=1)
    probabilities = np.zeros(len(patches), np.float32)
    probabilities[chosen] = run(patches[chosen][..., None])
    (probabilities.repeat(PATCH_PX * PATCH_PX) >= 0.5).any()
    return probabilities


def ours(model: Path, network: str, *, engine: str = "tensorflow") -> Score:  # noqa: ARG001 - as the others
    """What `predict` does; "all" is not told apart, for ours never scores black patches one by one."""
    from mmgkeras.images import read_single
    from mmgkeras.inference.detection import detect, find_marks
    from mmgkeras.savedmodel.classifier import compute_in_bfloat16, load

    compute_in_bfloat16()
    classifier = load(model, is_folded=True)
    if engine == "openvino":
        from mmgkeras.savedmodel.openvino_engine import with_openvino

        classifier = with_openvino(classifier, in_bfloat16=True)

    def score(path: Path, way: str) -> NDArray[np.float32]:  # noqa: ARG001
        single = read_single(path)
        detection = detect([classifier], single.mammogram)
        find_marks(detection, threshold=0.5, shape=single.mammogram.pixels.shape)
        return detection.score_map.probabilities.ravel()

    return score


def openvino(model: Path, network: str) -> Score:  # noqa: ARG001
    """OpenVINO reads our SavedModel; no TensorFlow is in this process."""
    import openvino as ov

    core = ov.Core()
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(model), "CPU", hints)

    def run(patches: Patches) -> NDArray[np.float32]:
        return np.concatenate([compiled([part])[0] for part in np.array_split(patches, -(-len(patches) // 64))])

    return lambda path, way: marked(run, path, way)


def pytorch(model: Path, network: str) -> Score:  # noqa: ARG001
    """The same layers in PyTorch with weights of their own, by autocast and channels last."""
    import torch
    from network_torch import Network

    net = Network(network).to(memory_format=torch.channels_last).eval()

    def run(patches: Patches) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            return torch.softmax(net(torch.from_numpy(patches)), dim=1)[:, 1].float().numpy()

    return lambda path, way: marked(run, path, way)


ENGINES: dict[str, Callable[[Path, str], Score]] = {
    "ours": ours,
    "ours-openvino": partial(ours, engine="openvino"),
    "openvino": openvino,
    "pytorch": pytorch,
}


def work(engine: str, model: Path, network: str) -> None:
    """A worker: a line with a path and a way comes in, a line with the seconds and the probabilities goes out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    score = ENGINES[engine](model, network)
    for line in sys.stdin:
        path, way = json.loads(line)
        start = time.perf_counter()
        probabilities = score(Path(path), way)
        seconds = time.perf_counter() - start
        answers.write(json.dumps([seconds, probabilities.tolist()]) + "\n")
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


def main() -> None:
    """Starts the workers and lets them take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18", choices=["resnet18", "resnet50"])
    parser.add_argument("--rounds", type=int, default=9)
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
        image = np.zeros((HEIGHT, WIDTH), np.uint8)
        image[:, : WIDTH // 2] = np.random.default_rng(0).integers(40, 256, (HEIGHT, WIDTH // 2))
        path = Path(folder) / "x_L_CC.jpeg"
        Image.fromarray(image).save(path, quality=90)
        black = np.asarray(Image.open(path)).copy()
        black[:, WIDTH // 2 + 16 :] = 0
        Image.fromarray(black).save(path, quality=90)
        seconds: dict[tuple[str, str], list[float]] = {}
        said: dict[str, NDArray[np.float32]] = {}
        workers = {}
        for engine in ENGINES:
            python = arguments.torch_python if engine == "pytorch" else sys.executable
            command = [python, __file__, "--worker", engine, "--model", str(model), "--network", arguments.network]
            workers[engine] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for round_ in range(-2, arguments.rounds):  # the first two warm up
            for engine, worker in workers.items():
                for way in WAYS:
                    worker.stdin.write(json.dumps([str(path), way]) + "\n")
                    worker.stdin.flush()
                    took, probabilities = json.loads(worker.stdout.readline())
                    said[engine] = np.array(probabilities, np.float32)
                    if round_ >= 0:
                        seconds.setdefault((engine, way), []).append(took)
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
        chosen = said["ours"] > 0
        print(f"{arguments.network}: OpenVINO differs by {np.abs(said['ours'] - said['openvino'])[chosen].max():.1e}")
        print("\n| program | patches | seconds | times ours | times ours-openvino |\n|---|---|---|---|---|")
        for (engine, way), times in seconds.items():
            ratios = [
                statistics.median(other / mine for other, mine in zip(times, seconds[own, "breast"], strict=True))
                for own in ("ours", "ours-openvino")
            ]
            told = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"| {engine} | {way} | {statistics.median(times):.2f} | {told} |")


if __name__ == "__main__":
    main()
