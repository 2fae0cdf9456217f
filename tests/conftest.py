"""Fixtures of all tests, and the comparison of the skipped ones with tests/expected_skips.txt."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# No test depends on the machine's speed: hypothesis would fail an example that takes over 0.2 s.
hypothesis.settings.register_profile(
    "any-speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-speed")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Finds a program, or a path seen from the project's folder, that may be absent; the test skips where it is."""

    def find(name: str) -> str:
        path = _found(name)
        if path is None:
            pytest.skip(f"needs {name}: not part of the project")
        return path

    return find


@pytest.fixture(scope="session")
def shared_data(program: Callable[[str], str]) -> Path:
    """The folder of real mammograms and annotation files beside the project; the test skips where it is absent."""
    return Path(program("../shared/data"))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of two cores, and a GPU in name only, on this machine, as the command line starts it."""
    from mmgkeras.cli.workers import ray_actors

    from mmgkeras.ray_actors import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        names = ("USAGE_STATS_ENABLED", "ENABLE_WINDOWS_OR_OSX_CLUSTER", "worker_niceness", "AUTH_MODE", "AUTH_TOKEN")
        for name in names:  # so that all are as before at the end
            patch.setenv(f"RAY_{name}", "")
        with connected(ray_actors(None).address, num_cpus=2, num_gpus=1):
            yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--expected-skips", type=Path, help="fail if other tests are skipped than this file lists")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compares in the process that collects all reports, not in the workers of xdist."""
    listed = session.config.getoption("--expected-skips")
    if listed is not None and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(SkipComparison(listed), "skip-comparison")


class SkipComparison:
    """Fails a run that is green because something was skipped that should not be."""

    def __init__(self, listed: Path) -> None:
        self.expected = set(_expected_skips(listed))
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped != self.expected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for nodeid in sorted(self.skipped - self.expected):
            terminalreporter.write_line(f"skipped, but not in the list of expected skips: {nodeid}")
        for nodeid in sorted(self.expected - self.skipped):
            terminalreporter.write_line(f"in the list of expected skips, but not skipped: {nodeid}")
        terminalreporter.write_line(f"skipped {len(self.skipped)}, expected {len(self.expected)}")


def _expected_skips(listed: Path) -> Iterator[str]:
    """The tests that must be skipped here: none of a condition that is met."""
    for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        condition, _, nodeid = line.partition(": ")
        needs, _, thing = condition.partition(" ")
        if needs != "needs" or not thing or not nodeid:
            raise pytest.UsageError(
                f"{listed}:{number}: must read 'needs PROGRAM: TEST' or 'needs PATH: TEST'. Received: {line!r}"
            )
        if _found(thing) is None:
            yield nodeid


def _found(name: str) -> str | None:
    """Where a program is, or the path itself: a plugin is a file that need not be executable."""
    if "/" not in name:
        return shutil.which(name)
    path = REPOSITORY / name
    return str(path) if path.exists() else None


@pytest.fixture(scope="session")
def export_mean_model() -> Callable[..., Path]:
    """Exports a SavedModel whose probability is 1 / (1 + exp(1 - 2 m)) for a patch of mean m of the type's maximum.

    That is 0.5 at the middle gray. `level` is added to the log odds. `changes` are to its metadata: 8 px patches of
    uint8, fold 1, patients "p1", "p2".
    """
    import keras

    from mmgkeras.savedmodel.export import export
    from mmgkeras.savedmodel.metadata import ModelMetadata, patients_digest

    def make(path: Path, *, changes: Mapping[str, Any] | None = None, level: float = 0.0) -> Path:
        fields: dict[str, Any] = {
            "network": "mean",
            "patch_px": 8,
            "stride_px": 8,
            "pixel_type": "uint8",
            "spacing_mm": 0.2,
            "fold": 1,
            "test_subset": "A",
            "test_patients_sha256": patients_digest(["p1", "p2"]),
            "store_checksum": "0" * 64,
        }
        metadata = ModelMetadata(**(fields | dict(changes or {})))
        image = keras.Input((metadata.patch_px, metadata.patch_px, 1), name="image")
        scaled = keras.layers.Rescaling(1 / np.iinfo(metadata.pixel_type).max, offset=-0.5)(image)
        head = keras.layers.Dense(2, name="head")
        logits = head(keras.layers.GlobalAveragePooling2D()(scaled))
        head.set_weights([np.array([[-1.0, 1.0]]), np.array([0.0, level])])
        export(keras.Model(image, logits), path, metadata)
        return path

    return make


@pytest.fixture(scope="session")
def export_finer_model(export_mean_model: Callable[..., Path]) -> Callable[[Path], Path]:
    """Exports beside a model a mean model that went on from it, at two thirds of its pixel size; its level is 1."""
    from mmgkeras.savedmodel.detector import finer_folder
    from mmgkeras.savedmodel.metadata import read_metadata
    from mmgkeras.study.run_files import Origin

    def make(model: Path) -> Path:
        own = read_metadata(model)
        known = own.model_dump(include={"store_checksum", "fold", "test_patients_sha256"})
        assert own.spacing_mm is not None
        changes = {
            "pixel_type": own.pixel_type,
            "patch_px": own.patch_px * 3 // 2,
            "stride_px": own.stride_px * 3 // 2,
            "spacing_mm": own.spacing_mm * 2 / 3,
            "started_from": (Origin(variables_sha256="0" * 64, **known),),
        }
        return export_mean_model(finer_folder(model), changes=changes, level=1.0)

    return make


@pytest.fixture(scope="session")
def quadrant_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of four patients p1 to p4 with one image each, a to d: 16 x 16 pixels in four even quadrants.

    Annotation is complete; the top left quadrant holds a calcification, but for image d. Spacing is 0.2 mm.
    """
    from PIL import Image

    from mmgkeras.schema import ImageRecord, Region
    from mmgkeras.tables import write_images, write_regions

    folder = tmp_path_factory.mktemp("quadrants")
    grays = {"a": [200, 50, 100, 20], "b": [110, 220, 60, 30], "c": [250, 90, 10, 70], "d": [40, 80, 120, 160]}
    records = []
    for number, (image_id, quadrants) in enumerate(grays.items(), start=1):
        pixels = np.kron(np.array(quadrants, np.uint8).reshape(2, 2), np.ones((8, 8), np.uint8))
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        records.append(ImageRecord(image_id, f"{image_id}.png", f"p{number}", "L", "CC", "complete", spacing_mm=0.2))
    write_images(folder / "images.csv", records)
    marks = [Region(image_id, "1", "calcification", "point", ((3.0, 3.0),)) for image_id in "abc"]
    write_regions(folder / "regions.csv", marks)
    return folder


@pytest.fixture
def quadrant_store(quadrant_data: Path, tmp_path: Path) -> Path:
    """A store of 8 px patches of that data; p1 and p2 are subset A, p3 and p4 subset B."""
    from mmgkeras.config import PatchesConfig
    from mmgkeras.patches.prepare import prepare
    from mmgkeras.tables import write_folds

    store = tmp_path / "quadrant-store"
    prepare(quadrant_data, store, PatchesConfig(patch_px=8))
    write_folds(store / "folds.csv", {"p1": "A", "p2": "A", "p3": "B", "p4": "B"})
    return store


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    """For patches of 8 bits."""
    path = tmp_path_factory.mktemp("models") / "mean" / "1"
    return export_mean_model(path, changes={"patch_px": 4, "stride_px": 4})


@pytest.fixture(scope="session")
def deep_model_path(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    """The same for patches of 16 bits."""
    path = tmp_path_factory.mktemp("models") / "mean" / "2"
    return export_mean_model(path, changes={"patch_px": 4, "stride_px": 4, "pixel_type": "uint16"})


@pytest.fixture(scope="session")
def training_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients with one image of 12 patches each, 2 of them positive: 8 positives and 40 negatives train a fold."""
    from PIL import Image

    from mmgkeras.config import PatchesConfig, SplitConfig
    from mmgkeras.patches.prepare import prepare
    from mmgkeras.patches.split import split_store
    from mmgkeras.schema import ImageRecord, Region
    from mmgkeras.tables import write_images, write_regions

    patch_px = 32
    folder = tmp_path_factory.mktemp("training")
    data = folder / "data"
    data.mkdir()
    generator = np.random.default_rng(0)
    records, regions = [], []
    for number in range(6):
        image_id = f"image{number}"
        pixels = generator.integers(0, 256, (4 * patch_px, 3 * patch_px), np.uint8)
        for mark, (row, col) in enumerate(((10, 10), (70, 40))):
            pixels[row : row + 8, col : col + 8] = 255
            box = ((row, col), (row + 7, col + 7))
            regions.append(Region(image_id, str(mark), "calcification", "box", box))
        Image.fromarray(pixels).save(data / f"{image_id}.png")
        records.append(ImageRecord(image_id, f"{image_id}.png", f"secret{number}", "L", "CC", "complete"))
    write_images(data / "images.csv", records)
    write_regions(data / "regions.csv", regions)
    store = prepare(data, folder / "store", PatchesConfig(patch_px=patch_px))
    split_store(store, SplitConfig(num_subsets=3))
    return store.path
