"""The page in headless Chromium: a server whose page carries a script of the test, and what the browser makes of it."""

import queue
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

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
  await fetch("/page/mark?said", { method: "POST", body: JSON.stringify(said) });
});
"""


PATIENCE_S: Final = 300
"""Before a browser that says nothing is given up; a slow machine only takes longer."""


class ScriptedPage(Page):
    """A page that carries a script, and keeps what the script says."""

    def __init__(self, classifier: Classifier, *, script: str, files: dict[str, bytes]) -> None:
        """Takes `async function run() {...}`, which may fetch these files by name."""
        super().__init__(classifier, name="mine")
        self.said: queue.Queue[str] = queue.Queue()
        index = self._files["/"]
        scripted = index.body.replace(b"</body>", b'<script src="/page/try.js"></script></body>')
        self._files |= {
            "/": Answer(200, scripted, content_type=index.content_type, headers=index.headers),
            "/page/try.js": Answer(200, _TRY + script.encode(), content_type="text/javascript"),
            **{f"/page/{name}": Answer(200, data) for name, data in files.items()},
        }

    def mark(self, body: bytes, *, query: str) -> Answer:
        """As the page's, but for what the script says."""
        if query != "said":
            return super().mark(body, query=query)
        self.said.put(body.decode())
        return Answer(200, b"{}")


@contextmanager
def browser(program: str, page: ScriptedPage) -> Iterator[ScriptedPage]:
    """The page, while headless Chromium shows it."""
    with (
        serving_service(Service(RestApi({}), page=page)) as (host, port),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}")
        command = [program, *flags, "--window-size=1200,800", f"http://{host}:{port}/"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield page
        finally:
            process.kill()
            process.wait()
