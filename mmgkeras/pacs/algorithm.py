"""Which model made a result, by which threshold: what every DICOM result says of itself.

Owns the identity of a model, and by what a result is known as ours, without highdicom.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mmgkeras import __version__
from mmgkeras.files import files_below, sha256_file
from mmgkeras.images.dicom_facts import HEAD_BYTES, is_dicom
from mmgkeras.overlay.draw import DISCLAIMER
from mmgkeras.savedmodel.classifier import Classifier

MANUFACTURER: Final = "mmgkeras"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A model with its settings.

    Attributes:
        name, version: of the model's folder, `saved_models/<name>/<version>`, in ASCII.
        network: such as "resnet18".
        model_sha256: of its graph and weights.
        store_checksum: of the patch store that it was trained on.
        threshold: of the marks.
        stride_px: distance between patches in pixels of the model.
        spacing_mm: the model's pixel size; None where it has none.
    """

    name: str
    version: str
    network: str
    model_sha256: str
    store_checksum: str
    threshold: float
    stride_px: int
    spacing_mm: float | None

    @classmethod
    def of(cls, classifier: Classifier, *, threshold: float, stride_px: int) -> Self:
        """The identity of a loaded model."""
        metadata, folder = classifier.metadata, classifier.path.resolve()
        return cls(
            name=_plain(folder.parent.name),
            version=_plain(folder.name),
            network=metadata.network,
            model_sha256=model_sha256(folder),
            store_checksum=metadata.store_checksum,
            threshold=threshold,
            stride_px=stride_px,
            spacing_mm=metadata.spacing_mm,
        )

    @property
    def title(self) -> str:
        """The software and the model, in a few words."""
        return f"mmgkeras {__version__}, model {self.name} {self.version}"

    @property
    def parameters(self) -> dict[str, str]:
        """The settings and checksums, by name."""
        spacing = {} if self.spacing_mm is None else {"pixel size": f"{self.spacing_mm:g} mm"}
        return {
            "threshold": f"{self.threshold:.6g}",
            "stride": f"{self.stride_px} px",
            **spacing,
            "network": self.network,
            "model sha256": self.model_sha256,
            "training store sha256": self.store_checksum,
            "use": DISCLAIMER,
        }


def _plain(name: str) -> str:
    """A folder's name as DICOM can hold it in any character set."""
    return name.encode("ascii", "replace").decode()


def model_sha256(folder: Path) -> str:
    """The SHA-256, in hexadecimal, of a SavedModel's graph and weights: of the names and checksums of their files."""
    files = [folder / "saved_model.pb", *files_below(folder / "variables")]
    lines = [f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_dicom_result(path: Path) -> bool:
    """Whether a file is a DICOM result of ours."""
    try:
        with path.open("rb") as file:
            if not is_dicom(file.read(HEAD_BYTES)):
                return False
        from pydicom import dcmread

        header = dcmread(path, specific_tags=["Manufacturer"], stop_before_pixels=True)
    except Exception:
        return False
    return str(header.get("Manufacturer")) == MANUFACTURER
