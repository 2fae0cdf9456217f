"""TensorFlow imported without the notes it writes to stderr before it can be told to be quiet."""

import os
import sys
from contextlib import suppress


def quiet_tensorflow() -> None:
    """Imports TensorFlow; its messages are silenced, exceptions are not.

    The messages of the import itself come from compiled code before any setting is read, straight to file descriptor
    2, so that descriptor is turned away for as long as the import takes.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
        os.dup2(nowhere.fileno(), 2)
    try:
        with suppress(ImportError):  # whoever needs it says so better
            import tensorflow as tf

            tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
