"""`mmgkeras listen`: takes mammograms from a PACS and sends the marks back."""

import signal
import threading
import time
import warnings
from pathlib import Path

import click

from .console import PATH, PROBABILITY, echo, quiet_tensorflow

_EXAMPLES = """\b
Examples:
  mmgkeras listen --send-to ARCHIVE@pacs.example:104
  mmgkeras listen --send-to ORTHANC@127.0.0.1:4242 --port 11112 --caller ORTHANC
"""


@click.command(epilog=_EXAMPLES, short_help="Mark the mammograms that a PACS sends.")
@click.option("--send-to", required=True, metavar="TITLE@HOST:PORT", help="The DICOM node that gets the results.")
@click.option("--title", default="MMGKERAS", show_default=True, help="Our AE title.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 for all of the machine."
)
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="The port to listen at.")
@click.option("--caller", "callers", multiple=True, help="An AE title that may send; repeatable.  [default: any]")
@click.option("--spool", type=PATH, default="spool", show_default=True, help="The folder for what waits.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The most images that wait at a time."
)
@click.option(
    "--model", type=PATH, default="detector", show_default=True, help="Another SavedModel's folder, NAME/VERSION."
)
@click.option("--threshold", type=PROBABILITY, help="Mark from this probability on.  [default: the model's]")
@click.option(
    "--result",
    "kinds",
    type=click.Choice(["sc", "seg", "sr"]),
    multiple=True,
    help="Which results to send: marked image, marks, CAD report; repeatable.  [default: all]",
)
def listen(
    *,
    send_to: str,
    title: str,
    host: str,
    port: int,
    callers: tuple[str, ...],
    spool: Path,
    limit: int,
    model: Path,
    threshold: float | None,
    kinds: tuple[str, ...],
) -> None:
    """Take mammograms by C-STORE, mark them one at a time, and send the results by C-STORE.

    Runs until it is interrupted or terminated; what waits then is in the spool, and the next start goes on with it. The
    log, on stderr, names no patient. There is no TLS. For research use, not for diagnosis.
    """
    quiet_tensorflow()
    from mmgkeras.errors import extra_needed
    from mmgkeras.savedmodel.detector import model_folder

    with extra_needed("pacs", to="listen"):
        from mmgkeras.pacs.listener import ListenOptions
        from mmgkeras.pacs.listener import listen as listen_to
        from mmgkeras.pacs.peer import Peer

    warnings.simplefilter("ignore")  # pydicom's repeat values of headers

    def log(line: str) -> None:
        echo(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}", err=True)

    options = ListenOptions(
        model=model_folder(model),
        send_to=Peer.parse(send_to),
        title=title,
        host=host,
        port=port,
        callers=callers,
        spool=spool,
        limit=limit,
        threshold=threshold,
        **({"kinds": kinds} if kinds else {}),  # type: ignore[arg-type]
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    listen_to(
        options,
        stop=stop,
        log=log,
        ready=lambda bound: log(f"{title} listens at {host}:{bound}, results go to {options.send_to}"),
    )
    log("ended")
