"""A DICOM node within the test's process, at 127.0.0.1, that keeps what it is sent."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import MammographyCADSRStorage, SecondaryCaptureImageStorage, SegmentationStorage

from mmgkeras.pacs.peer import Peer

TITLE = "ARCHIVE"
UNCLOSED = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
"""pynetdicom leaves it to the collector to close the socket of a connection that was refused."""


def free_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Archive:
    """The node; `close` ends it."""

    def __init__(self, *, port: int = 0, without: Sequence[str] = (), status: int = 0x0000) -> None:
        self.received: list[Dataset] = []
        self.callers: set[str] = set()
        self.sop_classes = [
            kind
            for kind in (SecondaryCaptureImageStorage, SegmentationStorage, MammographyCADSRStorage)
            if kind not in without
        ]
        entity = AE(ae_title=TITLE)
        entity.require_called_aet = True
        for sop_class in self.sop_classes:
            entity.add_supported_context(sop_class)

        def store(event: Any) -> int:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.received.append(dataset)
            self.callers.add(event.assoc.requestor.ae_title)
            return status

        self._server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
        self.peer = Peer(TITLE, "127.0.0.1", self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
