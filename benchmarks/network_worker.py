"""The far end of benchmarks/network.py: one process that holds one network and runs steps of it when told to.

Owns the protocol, one JSON object per line: the case comes as the first argument, the facts of what was built go out,
then for each line that comes in, ``{"steps": 4}``, the seconds those steps took go out. Knows no framework.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NUM_WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Case:
    """What is measured: `mode` is "train" or "infer", `way` how it is computed ("float32", "bfloat16", ...)."""

    network: str
    mode: str
    way: str
    batch: int
    patch_px: int
    threads: int
    compiled: bool


@dataclass(frozen=True)
class Prepared:
    """A network ready to run.

    Attributes:
        run: runs this many steps and returns when the device has finished them.
        parameters: number of trainable parameters.
        framework: name and version.
        device: on which it runs.
    """

    run: Callable[[int], None]
    parameters: int
    framework: str
    device: str


def serve(prepare: Callable[[Case], Prepared]) -> None:
    """Answers the parent on the standard output, which frameworks cannot write to meanwhile."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepared = prepare(Case(**json.loads(sys.argv[1])))
    prepared.run(NUM_WARM_UP_STEPS)
    _send(answers, {name: getattr(prepared, name) for name in ("parameters", "framework", "device")})
    for line in sys.stdin:
        start = time.perf_counter()
        prepared.run(json.loads(line)["steps"])
        _send(answers, {"seconds": time.perf_counter() - start})


def _send(answers: Any, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()
