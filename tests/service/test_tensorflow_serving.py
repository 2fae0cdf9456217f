"""The real TensorFlow Serving, where there is Docker; `.ci/serving` runs this."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmgkeras.inference.server_model import ServerModel
from mmgkeras.savedmodel.classifier import load
from mmgkeras.schema import ImageRecord, Mammogram
from mmgkeras.service.serving import add_to_serving_folder


def test_the_real_server_serves_the_folder_and_gives_the_same_answers(
    program: Callable[[str], str], tmp_path: Path, export_mean_model: Callable[..., Path]
) -> None:
    program("dockerd")
    path = export_mean_model(tmp_path / "mine" / "1", changes={"pixel_type": "uint16", "stride_px": 5})
    add_to_serving_folder(tmp_path / "serving", model=path)
    pixels = np.random.default_rng(4).integers(0, 65536, (300, 211), dtype=np.uint16)
    mammogram = Mammogram(pixels, ImageRecord("x", "", "p", "R", "CC", "none"))
    expected, activation = load(path).scan(mammogram)
    compose = ["docker", "compose", "--project-directory", str(tmp_path / "serving"), "--profile", "cpu"]
    try:
        subprocess.run([*compose, "up", "--detach"], check=True)
        for server in ("http://127.0.0.1:8501", "grpc://127.0.0.1:8500"):
            for name in ("mine", "mine/1", "mine/stable"):
                scores, cells = ServerModel(server, name, deadline_s=300).scan(mammogram)
                np.testing.assert_allclose(scores.probabilities, expected.probabilities, atol=1e-5)
                np.testing.assert_allclose(cells.values, activation.values, atol=1e-4)
    finally:
        subprocess.run([*compose, "logs", "--tail", "50"], check=False)
        subprocess.run([*compose, "down"], check=True)


def test_docker_takes_the_compose_file(
    program: Callable[[str], str], tmp_path: Path, export_mean_model: Callable[..., Path]
) -> None:
    program("dockerd")
    add_to_serving_folder(tmp_path / "serving", model=export_mean_model(tmp_path / "mine" / "1"))
    for profile in ("cpu", "gpu", "monitoring"):
        compose = ["docker", "compose", "--project-directory", str(tmp_path / "serving"), "--profile", profile]
        subprocess.run([*compose, "config", "--quiet"], check=True)
