import http.client
import json
import os
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.images import read_single
from mmgkeras.inference.detection import detect, find_marks
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.service.http_server import Service
from mmgkeras.service.page import Page
from mmgkeras.service.rest_api import RestApi
from tests.pacs.readings import write_source
from tests.service.browser import PATIENCE_S, ScriptedPage, browser
from tests.service.conftest import serving_service


def film(*, dtype: type = np.uint8) -> np.ndarray:
    """(160, 160): the breast at the left with two bright spots, and lettering beside it."""
    rows, cols = np.ogrid[:160, :160]
    pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 90, 0)
    pixels[64:80, 16:32] = 255
    pixels[96:104, 24:32] = 200
    pixels[8:24, 120:152] = 255
    return (pixels * (257 if dtype is np.uint16 else 1)).astype(dtype)


def png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def page(classifier: Classifier) -> Page:
    return Page(classifier, name="mine")


def parsed(body: bytes) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
    (length,) = struct.unpack_from("<I", body)
    told = json.loads(body[4 : 4 + length])
    start = 4 + length
    arrays = []
    shape, seen = (told["height"], told["width"]), (told["seen_height"], told["seen_width"])
    for dtype, size in ((f"<u{told['bits'] // 8}", shape), ("<u2", seen), ("<u1", seen)):
        assert start % 8 == 0
        array = np.frombuffer(body, dtype, size[0] * size[1], start).reshape(size)
        arrays.append(array)
        start += -(-array.nbytes // 8) * 8
    assert start == len(body)
    return told, *arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_shown_is_what_predict_finds(page: Page, classifier: Classifier, tmp_path: Path, dtype: type) -> None:
    answer = page.mark(png(film(dtype=dtype)), query="name=p1_R_MLO.png&spacing_mm=0.1")
    assert answer.status == 200
    told, pixels, mean, activation = parsed(answer.body)
    np.testing.assert_array_equal(pixels, film(dtype=dtype))
    (tmp_path / "p1_R_MLO.png").write_bytes(png(film(dtype=dtype)))
    single = read_single(tmp_path / "p1_R_MLO.png", spacing_mm=0.1)
    expected = detect([classifier], single.mammogram)
    np.testing.assert_allclose(mean / 65535, expected.score_map.stitch(), atol=1e-5)
    assert activation.max() > 128
    assert (activation[mean == 0] == 0).all()
    assert {name: told[name] for name in ("laterality", "laterality_from", "view", "hangs_mirrored")} == {
        "laterality": "R",
        "laterality_from": "the name",
        "view": "MLO",
        "hangs_mirrored": True,
    }
    assert (told["spacing_mm"], told["resampled_to_mm"], told["model"], told["threshold"]) == (0.1, 0.2, "mine", 0.5)


def test_the_side_may_be_told(page: Page) -> None:
    told, *_ = parsed(page.mark(png(film()), query="name=x.png&laterality=L").body)
    assert (told["laterality"], told["laterality_from"], told["spacing_mm"]) == ("L", "the option", None)


def test_dicom_is_taken_and_names_no_patient(page: Page, tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.dcm", PatientName="SECRET^NAME", PatientID="SECRET-ID")
    answer = page.mark(source.read_bytes(), query="name=a.dcm")
    told, pixels, *_ = parsed(answer.body)
    assert told["laterality_from"] == "the header"
    assert pixels.dtype == np.uint16
    assert b"SECRET" not in answer.body


@pytest.mark.parametrize(
    ("body", "query", "message"),
    [
        (b"", "name=a.png", "is empty (0 bytes)"),
        (b"text", "name=%2e%2e%2f%2e%2e%2fetc%2fpasswd", "is not a PNG, JPEG"),
        (png(film()), "name=a.png&laterality=X", "laterality must be one of"),
        (png(film()), "name=a.png&spacing_mm=-1", "spacing_mm must be above 0"),
        (png(film()), "name=a.png&spacing_mm=nan", "spacing_mm must be above 0"),
        (png(np.zeros((40, 40), np.uint8)), "name=a.png", "neither its name nor its pixels tell which breast"),
    ],
)
def test_what_cannot_be_shown_is_one_line_without_places(page: Page, body: bytes, query: str, message: str) -> None:
    answer = page.mark(body, query=query)
    assert answer.status == 400
    told = json.loads(answer.body)["error"]
    assert message in told
    assert "/tmp" not in told
    assert "\n" not in told


def test_a_temporary_folder_of_any_name_is_not_told(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"M\xfc")
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert json.loads(page.mark(b"", query="name=a.png").body)["error"] == "is empty (0 bytes)"


def test_the_page_asks_nothing_of_others(page: Page) -> None:
    for path in ("/", "/page/view.js", "/page/page.js", "/page/page.css"):
        file = page.file(path)
        assert file is not None
        assert "default-src 'none'" in file.headers["content-security-policy"]
        assert b"http://" not in file.body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in file.body
        assert b"innerHTML" not in file.body
    assert page.file("/page/../page.py") is None
    index = page.file("/")
    assert index is not None
    assert b"Research use only. Not for diagnosis." in index.body


def test_it_is_served_beside_the_api(page: Page, api: RestApi) -> None:
    with serving_service(Service(api, page=page)) as address:
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
        response.read()
        connection.request("POST", "/page/mark?name=a_L.png", png(film()))
        response = connection.getresponse()
        assert (response.status, parsed(response.read())[0]["width"]) == (200, 160)
        connection.request("GET", "/v1/models/mine")
        assert connection.getresponse().status == 200
        connection.close()


USE = """
async function run() {
  await drop("/page/film.bin", "<b>film</b>_L_CC.png");
  const boxes = view.marks.map(mark => [mark.top, mark.left, mark.bottom, mark.right]);
  const seen = { marks: boxes, shown: colours(isMark) };
  seen.count = document.getElementById("count").textContent;
  seen.name = document.getElementById("name").textContent;
  setThreshold(toSlider(0.7));
  frame();
  seen.fewer = document.getElementById("count").textContent;
  setThreshold(toSlider(0.9996)); seen.threshold = document.getElementById("threshold-value").textContent;
  setThreshold(toSlider(0.7));
  press("m"); frame();
  seen.hidden = colours(isMark);
  press("m"); press("i"); frame();
  seen.inverted = colours((r, g, b) => r === 255 && g === 255 && b === 255) > colours((r, g, b) => r + g + b === 0);
  press("i"); press("a"); frame();
  seen.heat = colours((r, g, b) => r > g + 40 && r > b + 40) > seen.shown;
  const scale = view.scale;
  press("+"); seen.larger = view.scale > scale;
  press("1"); seen.native = view.scale;
  press("n"); seen.centred = Math.abs(view.x + canvas.width / 2 / view.scale - 24) < 1;
  let saved;
  URL.createObjectURL = blob => { saved = blob; return "data:,"; };
  HTMLAnchorElement.prototype.click = function () { seen.file = this.download; };
  await save();
  const picture = await createImageBitmap(saved);
  seen.saved = [picture.width, picture.height];
  at("laterality").value = "R"; at("spacing").value = "0.2";
  await drop("/page/text.bin", "text.png");
  seen.error = document.getElementById("error").textContent;
  seen.said = at("laterality").value + at("spacing").value;
  seen.canBeSaid = !at("controls").contains(at("again"));
  await save();
  const { fetch } = window, gone = new File(["a"], "folder");
  window.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
  await score(gone); seen.silent = document.getElementById("error").textContent;
  gone.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("", "NotFoundError")) });
  await score(gone); seen.folder = document.getElementById("error").textContent;
  window.fetch = fetch;
  return seen;
}
const isMark = (r, g, b) => r === 255 && g > 40 && g < 220 && b < 40;
"""


def test_in_a_browser_marks_appear_and_slider_and_keys_work(
    program: Callable[[str], str], classifier: Classifier, tmp_path: Path
) -> None:
    chromium = program("chromium")
    data = png(film())
    scripted = ScriptedPage(classifier, script=USE, files={"film.bin": data, "text.bin": b"text"})
    with browser(chromium, scripted) as shown:
        seen = json.loads(shown.said.get(timeout=PATIENCE_S))
    assert "failed" not in seen, seen
    (tmp_path / "x_L_CC.png").write_bytes(data)
    mammogram = read_single(tmp_path / "x_L_CC.png").mammogram
    marks = find_marks(detect([classifier], mammogram), threshold=0.5, shape=(160, 160))
    assert seen["marks"] == [[mark.top, mark.left, mark.bottom, mark.right] for mark in marks]
    assert (seen["count"], seen["fewer"]) == ("2 marks", "1 mark")
    assert seen["threshold"].startswith("0.9996")
    assert seen["shown"] > 100
    assert seen["hidden"] == 0
    assert seen["inverted"]
    assert seen["heat"]
    assert seen["larger"]
    assert seen["native"] == pytest.approx(1)
    assert seen["centred"]
    assert (seen["file"], seen["saved"]) == ("<b>film</b>_L_CC-marked.png", [160, 160 + 24])
    assert seen["name"] == "<b>film</b>_L_CC.png"
    assert seen["error"].startswith("text.png: is not a PNG")
    assert seen["silent"] == "The server does not answer."
    assert seen["folder"] == "folder: cannot be read; drop one image file."
    assert seen["said"] == ""  # of the file before
    assert seen["canBeSaid"]  # also of a first file whose side cannot be told
