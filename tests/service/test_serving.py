import json
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.service.serving import add_to_serving_folder, open_server
from tests.service.test_rest_api import REQUEST


def test_a_models_folder_is_served_under_its_name(model_path: Path) -> None:
    server = open_server(model_path, host="127.0.0.1", port=0)
    assert server.models == ["mean", "mean-patches"]
    assert server.url.startswith("http://127.0.0.1:")
    threading.Thread(target=server.run, daemon=True).start()
    request = urllib.request.Request(f"{server.url}/v1/models/mean:predict", json.dumps(REQUEST).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.loads(answer.read())["predictions"][0]["model_version"] == "1"


def test_a_folder_that_is_no_version_is_one_line(model_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a version's folder, saved_models/NAME/1. Received: 'mean' as last"):
        open_server(model_path.parent, host="127.0.0.1", port=0)


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="loop/1: is no SavedModel"):
        open_server(tmp_path / "loop" / "1", host="127.0.0.1", port=0)


def test_the_page_asks_a_finer_model_beside_the_model(
    export_mean_model: Callable[..., Path], export_finer_model: Callable[[Path], Path], tmp_path: Path
) -> None:
    model = export_mean_model(tmp_path / "mean" / "1")
    rows, cols = np.ogrid[:160, :160]
    Image.fromarray(np.where((rows - 80) ** 2 + cols**2 < 70**2, 200, 0).astype(np.uint8)).save(tmp_path / "L_CC.png")

    def marked(model: Path = model) -> bytes:
        server = open_server(model, host="127.0.0.1", port=0)
        server.listening.close()
        return server.page.mark((tmp_path / "L_CC.png").read_bytes(), query="name=L_CC.png&spacing_mm=0.1").body

    before = marked()
    assert marked() == before
    export_finer_model(model)
    serving = tmp_path / "serving"
    add_to_serving_folder(serving, model=model)
    assert marked(serving) == marked() != before
