"""A PACS that routes its images to the listener and gets the results back: Orthanc, in a network of its own.

Run in a network namespace, for Orthanc listens on every address of its machine. Prints what was seen as JSON.

    unshare -rn python tests/pacs/orthanc_scenario.py ORTHANC PLUGINS MODEL SOURCE FOLDER
"""

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom import Dataset, dcmread
from pynetdicom import AE
from pynetdicom.sop_class import (
    DigitalMammographyXRayImageStorageForPresentation,
    StudyRootQueryRetrieveInformationModelFind,
)

from mmgkeras.pacs.listener import ListenOptions, listen
from mmgkeras.pacs.peer import Peer

REST = "http://127.0.0.1:8042"
PATIENCE_S = 120
ROUTE = """
function OnStoredInstance(instance, tags, metadata, origin)
  if tags['Modality'] == 'MG' then SendToModality(instance, 'mmgkeras') end
end
"""


def bring_up_loopback() -> None:
    """What `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP


def get(path: str, *, data: bytes | None = None, **headers: str) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(REST + path, data, names), timeout=60) as answer:
        return bytes(answer.read())


def until(is_so: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("it did not come")
        time.sleep(0.1)


def is_up() -> bool:
    try:
        return bool(get("/system"))
    except urllib.error.URLError:
        return False


def instances() -> list[str]:
    return list(json.loads(get("/instances")))


def store(path: Path) -> int:
    """Sends a mammogram by C-STORE: the status."""
    entity = AE(ae_title="DEVICE")
    entity.add_requested_context(DigitalMammographyXRayImageStorageForPresentation)
    association = entity.associate("127.0.0.1", 4242, ae_title="ORTHANC")
    status = association.send_c_store(path).Status
    association.release()
    return int(status)


def find(study: str) -> list[str]:
    """The modalities of a study's series, by C-FIND."""
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.Modality, query.SeriesInstanceUID = "SERIES", study, "", ""
    entity = AE(ae_title="MMGKERAS")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", 4242, ae_title="ORTHANC")
    answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
    found = sorted(answer.Modality for _, answer in answers if answer is not None)
    association.release()
    return found


def stow(data: bytes) -> int:
    """Sends a file by STOW-RS: how many it took."""
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--x--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    answer = json.loads(
        get("/dicom-web/studies", data=body, Content_Type=kind, Accept="application/dicom+json").decode()
    )
    return len(answer["00081199"]["Value"])


def observe(source: Path) -> dict[str, Any]:
    """Sends a mammogram to Orthanc, waits for its results there, and looks at them."""
    study = str(dcmread(source, stop_before_pixels=True).StudyInstanceUID)
    seen: dict[str, Any] = {"store": store(source)}
    until(lambda: len(instances()) == 4)
    seen["found by C-FIND"] = find(study)
    series = json.loads(get(f"/dicom-web/studies/{study}/series", Accept="application/dicom+json"))
    seen["found by QIDO-RS"] = sorted(item["00080060"]["Value"][0] for item in series)
    files = {one: get(f"/instances/{one}/file") for one in instances()}
    headers = {one: dcmread(BytesIO(data)) for one, data in files.items()}
    results = {one: header for one, header in headers.items() if header.Modality != "MG"}
    (marked,) = (one for one, header in results.items() if header.Modality == "OT")
    seen["stored by STOW-RS"] = [stow(files[one]) for one in results]
    seen["instances at last"] = len(instances())
    uids = [results[marked][name].value for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    place = "/dicom-web/studies/{}/series/{}/instances/{}/rendered".format(*uids)
    with Image.open(BytesIO(get(place, Accept="image/png"))) as picture:
        seen["rendered"] = [picture.mode, *picture.size]
    seen["marked image"] = [int(results[marked].Columns), int(results[marked].Rows)]
    return seen


def main() -> None:
    program, plugins, model, source, folder = sys.argv[1], *map(Path, sys.argv[2:])
    bring_up_loopback()
    (folder / "route.lua").write_text(ROUTE)
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "LuaScripts": [str(folder / "route.lua")],
                "Plugins": [str(plugins)],
                "DicomModalities": {"mmgkeras": ["MMGKERAS", "127.0.0.1", 11112]},
            }
        )
    )
    stop, lines = threading.Event(), list[str]()
    up = threading.Event()
    options = ListenOptions(
        model=model, send_to=Peer("ORTHANC", "127.0.0.1", 4242), spool=folder / "spool", threshold=0.01
    )
    with (folder / "orthanc.log").open("wb") as log:
        orthanc = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
    listener = threading.Thread(
        target=listen, args=(options,), kwargs={"stop": stop, "log": lines.append, "ready": lambda _: up.set()}
    )
    listener.start()
    try:
        until(is_up)
        until(up.is_set)
        print(json.dumps(observe(source)))
    finally:
        stop.set()
        listener.join()
        orthanc.terminate()
        orthanc.wait(60)


if __name__ == "__main__":
    main()
