import json
import threading
import urllib.request
from pathlib import Path

import pytest

from mmgkeras.errors import InputError
from mmgkeras.service.serving import open_server
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
