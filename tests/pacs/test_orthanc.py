import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .readings import write_source

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"  # Debian's orthanc-dicomweb, which brings Orthanc


def test_results_come_back_to_a_pacs_that_routes_its_images(
    tmp_path: Path, deep_model_path: Path, program: Callable[[str], str]
) -> None:
    plugin, orthanc = program(PLUGIN), program("Orthanc")
    source = write_source(tmp_path / "source.dcm")
    script = Path(__file__).with_name("orthanc_scenario.py")
    command = ["unshare", "-rn", sys.executable, script, orthanc, plugin, deep_model_path, source, tmp_path]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert seen["store"] == 0
    assert seen["found by C-FIND"] == seen["found by QIDO-RS"] == ["MG", "OT", "SEG", "SR"]
    assert seen["stored by STOW-RS"] == [1, 1, 1]
    assert seen["instances at last"] == 4
    assert seen["rendered"] == ["RGB", *seen["marked image"]]
