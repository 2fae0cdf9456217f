"""How many patches per second the networks train on and classify, beside PyTorch's same networks.

    python benchmarks/network.py --torch-python PATH_TO_A_PYTHON_WITH_TORCH --json network.json

Each case runs in a process of its own with as many threads as the others; the processes of one case are alive together
and take turns, round by round, so that a change of the machine's load meets both. Metrics are medians over the rounds;
the ratio is the median of the rounds' own ratios. Both frameworks must have the same number of trainable parameters.
A step takes raw uint8 patches that are already on the device: preprocessing is counted, input is not. "detector" is the
network of configs/detector.toml, with random weights; it looks at patches of 64 px, so give it a run of its own.

On TensorFlow and a CPU, "bfloat16-rewrite" is the float32 network with oneDNN's graph rewrite to bfloat16, "bfloat16"
Keras' mixed_bfloat16 policy. PyTorch's bfloat16 is its autocast; it runs eagerly unless --torch-compile is given.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from network_worker import Case

FOLDER = Path(__file__).resolve().parent
NETWORKS = ("resnet18", "resnet50", "resnet101", "detector")
WAYS = ("float32", "bfloat16", "bfloat16-rewrite")


class Worker:
    """A process that holds one case and runs steps of it when told to."""

    def __init__(self, python: str, script: str, case: Case) -> None:
        """Starts the process; `facts` waits for it."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        variables = dict.fromkeys(names, str(case.threads)) | {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        command = [python, str(FOLDER / script), json.dumps(asdict(case))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | variables
        )
        self._patches_per_step = case.batch

    def __enter__(self) -> Self:
        """The worker itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.communicate()

    def facts(self) -> dict[str, Any]:
        """Framework, device and number of parameters, once it has warmed up."""
        return self._answer()

    def patches_per_second(self, *, steps: int) -> float:
        """The rate over this many steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"steps": steps}) + "\n")
        self._process.stdin.flush()
        return steps * self._patches_per_step / float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended before it answered; its own message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """Measures every case, prints the table and writes the JSON."""
    options = parse()
    environment = {"cpu": cpu_name(), "threads": options.threads, "system": platform.platform()}
    environment["load_before"] = os.getloadavg()[0]
    print(f"{environment['cpu']}, {options.threads} threads; {options.patch_px} px; rounds of {options.steps} steps")
    print(f"processes that wanted to run in the minute before: {environment['load_before']:.1f}")
    print(f"{'network':<10}{'mode':<7}{'way':<18}{'batch':>5}{'Keras':>10}{'PyTorch':>10}{'ratio':>8}  patches/s")
    results = []
    for case in cases(options):
        result = measure(case, options)
        results.append(result)
        print(row(result), flush=True)
    for name in ("keras", "torch"):
        described = {f"{result[name]['framework']} on {result[name]['device']}" for result in results if name in result}
        print(*sorted(described), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps({"environment": environment, "results": results}, indent=1))


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS[:3]))
    parser.add_argument("--modes", nargs="+", choices=("train", "infer"), default=["train", "infer"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="default: all that the backend has")
    parser.add_argument("--train-batch", type=int, default=32)
    parser.add_argument("--infer-batch", type=int, default=64)
    parser.add_argument("--patch-px", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps in a round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true", help="XLA for TensorFlow (JAX always compiles)")
    parser.add_argument("--torch-compile", action="store_true", help="torch.compile instead of eager PyTorch")
    parser.add_argument("--torch-python", help="an interpreter with torch; default: this one if it has torch")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    options = parser.parse_args()
    if options.torch_python is None and importlib.util.find_spec("torch") is not None:
        options.torch_python = sys.executable
    return options


def cases(options: argparse.Namespace) -> list[Case]:
    """Every case that was asked for; the graph rewrite only where there is TensorFlow to do it."""
    tensorflow = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow" and importlib.util.find_spec(
        "tensorflow"
    )
    ways = options.ways or (WAYS if tensorflow else WAYS[:2])
    return [
        Case(
            network=network,
            mode=mode,
            way=way,
            batch=options.train_batch if mode == "train" else options.infer_batch,
            patch_px=options.patch_px,
            threads=options.threads,
            compiled=options.compile,
        )
        for network in options.networks
        for mode in options.modes
        for way in ways
    ]


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """The rates of one case, round by round in turns, and their medians."""
    result: dict[str, Any] = asdict(case)
    with Worker(sys.executable, "network_keras.py", case) as ours:
        result["keras"] = ours.facts()
        if options.torch_python is None:
            rounds = [ours.patches_per_second(steps=options.steps) for _ in range(options.rounds)]
            result["keras"] |= summary(rounds)
            return result
        with Worker(options.torch_python, "network_torch.py", replace(case, compiled=options.torch_compile)) as theirs:
            result["torch"] = theirs.facts()
            check_same_network(result)
            pairs = [
                (ours.patches_per_second(steps=options.steps), theirs.patches_per_second(steps=options.steps))
                for _ in range(options.rounds)
            ]
    result["keras"] |= summary([pair[0] for pair in pairs])
    result["torch"] |= summary([pair[1] for pair in pairs])
    result["ratio"] = statistics.median(ours / theirs for ours, theirs in pairs)
    return result


def check_same_network(result: dict[str, Any]) -> None:
    """Ends the run if the two frameworks do not hold networks of one size."""
    ours, theirs = result["keras"]["parameters"], result["torch"]["parameters"]
    if ours != theirs:
        raise SystemExit(f"{result['network']}: Keras has {ours} parameters, PyTorch {theirs}: not the same network")


def summary(rounds: Sequence[float]) -> dict[str, Any]:
    """The rounds' rates and their median, in patches per second."""
    return {"rounds": list(rounds), "patches_per_second": statistics.median(rounds)}


def row(result: dict[str, Any]) -> str:
    """One line of the table."""
    theirs = f"{result['torch']['patches_per_second']:>10.1f}{result['ratio']:>8.2f}" if "torch" in result else ""
    ours = f"{result['keras']['patches_per_second']:>10.1f}"
    return f"{result['network']:<10}{result['mode']:<7}{result['way']:<18}{result['batch']:>5}{ours}{theirs}"


def cpu_name() -> str:
    """The processor's own name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


if __name__ == "__main__":
    main()
