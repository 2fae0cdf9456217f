"""`mmgkeras serve`: a model behind HTTP on one machine."""

from pathlib import Path

import click

from .console import PATH, echo, quiet_tensorflow

_EXAMPLES = """\b
Examples:
  mmgkeras serve
  mmgkeras serve --model saved_models/mine/1 --port 8501
"""


@click.command(epilog=_EXAMPLES, short_help="Serve a model over HTTP, without TensorFlow Serving.")
@click.option("--model", type=PATH, default="detector", show_default=True, help="A SavedModel's folder, NAME/VERSION.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; no other is safe.")
@click.option("--port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="0 for a free one.")
@click.option(
    "--bfloat16", is_flag=True, help="Two to four times as fast on new processors; docs/serving.md says how exact."
)
def serve(*, model: Path, host: str, port: int, bfloat16: bool) -> None:
    """Serve a model by the REST API of TensorFlow Serving, and a page to try it, on this machine alone.

    POST /v1/models/NAME:predict takes encoded mammograms, NAME-patches patches; /healthz and
    /monitoring/prometheus/metrics watch it. There is no password and no TLS. For research use, not for diagnosis.
    """
    quiet_tensorflow()
    from mmgkeras.service.serving import open_server

    server = open_server(model, host=host, port=port, in_bfloat16=bfloat16)
    echo(f"serving {', '.join(server.models)} on {server.url}; stop it with Ctrl-C", err=True)
    server.run()
