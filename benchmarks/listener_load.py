"""`mmgkeras listen` under load and kills: `python -m benchmarks.listener_load`.

Four senders give it images of 60 studies, a tenth of them cut short, faster than it can mark them, and send again what
it refuses for want of room; meanwhile it is killed (SIGKILL) and started anew. Every image has one bright square in a
place of its own, which its report must name. All within this machine, by a model that finds bright squares.
"""

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pynetdicom import AE
from pynetdicom.sop_class import DigitalMammographyXRayImageStorageForPresentation

from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import ModelMetadata, patients_digest
from tests.images.dicom_files import file_of, mammogram
from tests.pacs.archive import Archive, free_port
from tests.pacs.readings import HEADER, film

SQUARE_PX = 8
NUM_SENDERS = 4
LIMIT = 20
PATIENCE_S = 300
UID = "1.2.826.0.1.3680043.10.9"


def place_of(number: int) -> tuple[int, int]:
    """Row and column at which the square of an image begins."""
    return SQUARE_PX * (5 + number % 9), SQUARE_PX * (number // 9 % 4)


def write_image(path: Path, number: int) -> None:
    """One image; every tenth promises more rows than it has."""
    stored = np.where(film((160, 128), is_right=False) > 0, 900, 0)
    row, col = place_of(number)
    stored[row : row + SQUARE_PX, col : col + SQUARE_PX] = 4095
    study = number // 4 + 1
    header = HEADER | {
        "SOPInstanceUID": f"{UID}.1.{number + 1}",
        "StudyInstanceUID": f"{UID}.2.{study}",
        "SeriesInstanceUID": f"{UID}.3.{study}",
        "PatientID": f"SECRET{study}",
        "PatientName": f"SECRET^{study}",
        **({"Rows": 5000} if number % 10 == 9 else {}),
    }
    path.write_bytes(file_of(mammogram(stored, **header)))


def write_model(path: Path) -> None:
    """A model whose probability is above 0.6 for patches that are bright."""
    import keras

    image = keras.Input((SQUARE_PX, SQUARE_PX, 1))
    head = keras.layers.Dense(2)
    logits = head(keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 65535, offset=-0.5)(image)))
    head.set_weights([np.array([[-4.0, 4.0]]), np.zeros(2)])
    metadata = ModelMetadata(
        network="bright",
        patch_px=SQUARE_PX,
        stride_px=SQUARE_PX,
        pixel_type="uint16",
        spacing_mm=None,
        fold=1,
        test_subset="A",
        test_patients_sha256=patients_digest(["p"]),
        store_checksum="0" * 64,
    )
    export(keras.Model(image, logits), path, metadata)


def give(paths: list[Path], port: int, *, statuses: Counter[int | None], taken: set[Path]) -> None:
    """Sends images one by one until each is taken or refused for good."""
    for path in paths:
        status = None
        while status not in (0x0000, 0xC000):
            entity = AE(ae_title="DEVICE")
            entity.add_requested_context(DigitalMammographyXRayImageStorageForPresentation)
            entity.connection_timeout = 2
            association = entity.associate("127.0.0.1", port, ae_title="MMGKERAS")
            if association.is_established:
                status = association.send_c_store(path).get("Status")
                association.release()
                statuses[status] += 1
            if status == 0x0000:
                taken.add(path)
            time.sleep(0.2)


def outlines(item: Dataset) -> Iterator[list[float]]:
    """The boxes around the marks of a report, as left, top, right, bottom."""
    for child in item.get("ContentSequence", ()):
        if child.get("GraphicType") == "POLYLINE":
            left, top, right, _, _, bottom = child.GraphicData[:6]
            yield [left, top, right, bottom]
        yield from outlines(child)


def is_right(report: Dataset) -> bool:
    """Whether a report is of its image, its patient and its study."""
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    uid = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    number = int(uid.rpartition(".")[2]) - 1
    row, col = place_of(number)
    study = number // 4 + 1
    return (
        list(outlines(report)) == [[col, row, col + SQUARE_PX, row + SQUARE_PX]]
        and report.PatientID == f"SECRET{study}"
        and report.StudyInstanceUID == f"{UID}.2.{study}"
    )


def main() -> None:
    """Runs it and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draws = random.Random(arguments.seed)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # of the connections that are refused after a kill
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "models" / "bright" / "1")
        paths = [folder / f"{number:04}.dcm" for number in range(arguments.images)]
        for number, path in enumerate(paths):
            write_image(path, number)
        archive, port = Archive(), free_port()
        log = (folder / "listen.log").open("wb")

        def start() -> subprocess.Popen[bytes]:
            options = ["--send-to", str(archive.peer), "--port", str(port), "--spool", str(folder / "spool")]
            options += ["--model", str(folder / "models/bright/1"), "--threshold", "0.6", "--limit", str(LIMIT)]
            program = Path(sys.executable).with_name("mmgkeras")
            return subprocess.Popen([program, "listen", *options], stdout=log, stderr=log, env=os.environ)

        statuses: Counter[int | None] = Counter()
        taken: set[Path] = set()
        senders = [
            threading.Thread(
                target=give, args=(paths[k::NUM_SENDERS], port), kwargs={"statuses": statuses, "taken": taken}
            )
            for k in range(NUM_SENDERS)
        ]
        process = start()
        for sender in senders:
            sender.start()
        kills = 0
        while any(sender.is_alive() for sender in senders):
            time.sleep(draws.uniform(14, 20))
            if kills < arguments.kills and any(sender.is_alive() for sender in senders):
                process.kill()
                process.wait()
                process, kills = start(), kills + 1
        end = time.monotonic() + PATIENCE_S
        while any((folder / "spool").rglob("*.*")) and time.monotonic() < end:
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        archive.close()
        told = (folder / "listen.log").read_text()
        reports = {dataset.SOPInstanceUID: dataset for dataset in archive.received if dataset.Modality == "SR"}
        instances = {dataset.SOPInstanceUID for dataset in archive.received}
        named = {dcmread(path, stop_before_pixels=True).PatientID for path in taken}
    print(f"images sent {len(paths)}, taken {len(taken)}; kills {kills}; exit code at SIGTERM {code}")
    print("answers:", ", ".join(f"{'none' if key is None else f'{key:04X}'} {n}" for key, n in statuses.items()))
    print(f"results at the archive: {len(instances)}, {3 * len(taken)} expected")
    print(f"reports {len(reports)}, wrong {sum(not is_right(report) for report in reports.values())}")
    print(f"patients {len(named)}; named in the log: {'SECRET' in told}")


if __name__ == "__main__":
    main()
