"""`mmgkeras serve` under load: throughput beside direct calls, twice its capacity for minutes, and a kill.

    python benchmarks/serving.py --seconds 20 --overload-minutes 10

Prints Markdown. Run it on an idle machine; clients and server share its cores. docs/serving.md has its numbers.
"""

import argparse
import base64
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from mmgkeras.inference.server_model import ServerModel
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.savedmodel.servable import Servable, servables
from mmgkeras.schema import ImageRecord, Mammogram
from mmgkeras.sources.phantom import write_phantom

PORT = 8597
PATH = "/v1/models/detector:predict"


class Load:
    """Requests of different mammograms, and the score that each must be answered with."""

    def __init__(self) -> None:
        """Makes phantoms of 0.2 mm, and scores them here."""
        with TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            write_phantom(data, num_patients=2, seed=3, spacing_mm=0.2)
            files = sorted(data.glob("images/*.png"))
            self.images = [path.read_bytes() for path in files]
        classifier = load(model_folder(Path("detector")), is_folded=True)
        self.servable, _ = servables(classifier, name="detector", version=1)
        self.scores = [float(run(self.servable, data)["score"][0]) for data in self.images]
        self.bodies = [
            json.dumps(
                {"instances": [{"image_bytes": {"b64": base64.b64encode(data).decode()}, "chest_wall": "left"}]}
            ).encode()
            for data in self.images
        ]

    def ask(self, number: int, connection: http.client.HTTPConnection) -> tuple[str, float]:
        """What came of a request, "200", "503", "wrong" or an error's name, and the seconds that it took."""
        start = time.perf_counter()
        try:
            connection.request("POST", PATH, self.bodies[number % len(self.bodies)])
            response = connection.getresponse()
            answer = response.read()
            kind = str(response.status)
            if response.status == 200:
                score = json.loads(answer)["predictions"][0]["score"]
                kind = "200" if abs(score - self.scores[number % len(self.bodies)]) < 1e-4 else "wrong"
        except (OSError, http.client.HTTPException) as error:
            kind = type(error).__name__
            connection.close()
        return kind, time.perf_counter() - start


def run(servable: Servable, data: bytes) -> dict[str, np.ndarray]:
    """A direct call."""
    return servable.run("detect", {"image_bytes": np.array([data], object), "chest_wall": np.array([b"left"])})


def start_server() -> subprocess.Popen[bytes]:
    """`mmgkeras serve` in a process of its own, once it answers."""
    code = f"from mmgkeras.cli import main; main(['serve', '--port', '{PORT}'])"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return process
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()


def direct(load_: Load, *, seconds: float, num_threads: int) -> float:
    """Mammograms a second of direct calls."""
    end, count = time.perf_counter() + seconds, Counter[str]()

    def work() -> None:
        while time.perf_counter() < end:
            run(load_.servable, load_.images[count["n"] % len(load_.images)])
            count["n"] += 1

    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(num_threads):
            pool.submit(work)
    return count["n"] / seconds


def closed_loop(load_: Load, *, seconds: float, num_clients: int) -> tuple[Counter[str], np.ndarray]:
    """What came of clients that each send the next request when they have the last answer, and their 200s' seconds."""
    end, kinds, times = time.perf_counter() + seconds, Counter[str](), []

    def work(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        number = client
        while time.perf_counter() < end:
            kind, took = load_.ask(number, connection)
            kinds[kind] += 1
            if kind == "200":
                times.append(took)
            else:
                time.sleep(0.2)  # a busy server is asked again later
            number += 1

    with ThreadPoolExecutor(num_clients) as pool:
        list(pool.map(work, range(num_clients)))
    return kinds, np.array(times)


def open_loop(load_: Load, *, seconds: float, rate: float) -> tuple[Counter[str], np.ndarray, np.ndarray]:
    """What came of requests that are sent at a rate, whatever comes back, and the seconds of 200s and of 503s."""
    kinds, good, refused = Counter[str](), [], []

    def work(number: int) -> None:
        kind, took = load_.ask(number, http.client.HTTPConnection("127.0.0.1", PORT, timeout=120))
        kinds[kind] += 1
        (good if kind == "200" else refused).append(took)

    threads, start = [], time.perf_counter()
    for number in range(int(seconds * rate)):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        threads.append(threading.Thread(target=work, args=(number,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(120)
    kinds["lost"] = sum(thread.is_alive() for thread in threads)
    return kinds, np.array(good), np.array(refused)


def kill_and_recover(load_: Load, process: subprocess.Popen[bytes]) -> tuple[int, float, subprocess.Popen[bytes]]:
    """Answers that our client gets while the server is killed and started again, the longest wait, and the server."""
    model = ServerModel(f"http://127.0.0.1:{PORT}", "detector")
    pixels = np.asarray(Image.open(io.BytesIO(load_.images[0])))
    mammogram = Mammogram(pixels, ImageRecord("x", "", "p", "L", "CC", "none"))
    expected = model.scan(mammogram)[0].probabilities
    times: list[float] = []

    def work() -> None:
        for _ in range(20):
            start = time.perf_counter()
            np.testing.assert_allclose(model.scan(mammogram)[0].probabilities, expected, atol=1e-6)
            times.append(time.perf_counter() - start)

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(work) for _ in range(2)]
        time.sleep(1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = start_server()
        for client in clients:
            client.result()
    return len(times), max(times), process


def main() -> None:
    """Measures all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--overload-minutes", type=float, default=10)
    arguments = parser.parse_args()
    load_ = Load()
    process = start_server()
    print("| clients | mammograms a second | of direct calls | median s | p95 s | 503 | other |\n" + "|---" * 7 + "|")
    capacity = 0.0
    for num_clients in (1, 4, 16):
        alone = direct(load_, seconds=arguments.seconds, num_threads=min(2, num_clients))
        kinds, times = closed_loop(load_, seconds=arguments.seconds, num_clients=num_clients)
        rate = kinds["200"] / arguments.seconds
        capacity = max(capacity, rate)
        bad = sum(count for kind, count in kinds.items() if kind not in ("200", "503"))
        quantiles = " | ".join(f"{value:.2f}" for value in np.quantile(times, [0.5, 0.95]))
        print(f"| {num_clients} | {rate:.1f} | {rate / alone:.0%} | {quantiles} | {kinds['503']} | {bad} |", flush=True)
    kinds, good, refused = open_loop(load_, seconds=60 * arguments.overload_minutes, rate=2 * capacity)
    print(f"\n{2 * capacity:.1f} requests a second for {arguments.overload_minutes:g} minutes: {dict(kinds)}")
    print(f"200 within {np.quantile(good, 0.95):.2f} s (p95), {good.max():.2f} s (longest)")
    print(f"others within {np.quantile(refused, 0.95):.3f} s (p95), {refused.max():.3f} s (longest)")
    count, longest, process = kill_and_recover(load_, process)
    print(f"killed and started again: {count} of 40 answers, all right, the longest after {longest:.1f} s")
    process.terminate()
    process.wait()


if __name__ == "__main__":
    main()
