"""The page in headless Chromium: a server whose page carries a script of the test, and what the browser makes of it."""

import html
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.service.http_server import Service
from mmgkeras.service.page import Page
from mmgkeras.service.rest_api import Answer, RestApi
from tests.service.conftest import serving_service

_TRY = b"""
const frame = () => context.putImageData(view.render(canvas.width, canvas.height), 0, 0);  // headless paints none
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
async function drop(path, name) {
  const body = await (await fetch(path)).arrayBuffer();
  const data = new DataTransfer();
  data.items.add(new File([body], name));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  while (!document.getElementById("busy").hidden) await new Promise(done => setTimeout(done, 50));
  if (view) frame();
}
function colours(test) {
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) count += test(data[i], data[i + 1], data[i + 2]) ? 1 : 0;
  return count;
}
window.addEventListener("load", async () => {
  let said;
  try { said = await run(); } catch (error) { said = { failed: String(error.stack || error) }; }
  document.body.setAttribute("data-said", JSON.stringify(said));
});
"""


@contextmanager
def page_serving(classifier: Classifier, *, script: str, files: dict[str, bytes]) -> Iterator[str]:
    """The URL of a page that runs a script, `async function run() {...}`, which may fetch these files by name."""
    page = Page(classifier, name="mine")
    index = page.file("/")
    assert index is not None
    scripted = index.body.replace(b"</body>", b'<script src="/page/try.js"></script></body>')
    # Not the model's own files; a test may add some.
    page._files = page._files | {
        "/": Answer(200, scripted, content_type=index.content_type, headers=index.headers),
        "/page/try.js": Answer(200, _TRY + script.encode(), content_type="text/javascript"),
        **{f"/page/{name}": Answer(200, data) for name, data in files.items()},
    }
    with serving_service(Service(RestApi({}), page=page)) as (host, port):
        yield f"http://{host}:{port}/"


def browse(chromium: str, url: str, *, size: tuple[int, int] = (1200, 800), screenshot: Path | None = None) -> str:
    """What the page's script says, once it has run; the picture of the window on request."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            "--virtual-time-budget=60000",
        ]
        if screenshot is not None:
            subprocess.run([*command, f"--screenshot={screenshot}", url], check=True, capture_output=True, timeout=300)
        result = subprocess.run([*command, "--dump-dom", url], check=True, capture_output=True, text=True, timeout=300)
    found = re.search(r'data-said="([^"]*)"', result.stdout)
    assert found is not None, result.stdout[-2000:] + result.stderr[-2000:]
    return html.unescape(found[1])
