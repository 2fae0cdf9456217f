"""`import mmgkeras as mg`: each function takes a path, as text too, or the object, and calls the library with it."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmgkeras as mg
from mmgkeras.config import Config, PatchesConfig, SplitConfig, read_config
from mmgkeras.errors import ConfigError, InputError
from mmgkeras.images import at_spacing
from mmgkeras.patches.store import PatchStore
from mmgkeras.schema import ImageRecord, ScoreMap
from mmgkeras.tables import write_images


def test_every_name_of_the_list_is_there_and_no_name_is_a_package() -> None:
    assert len(mg.__all__) == len(set(mg.__all__)) == 11
    for name in mg.__all__:
        assert name in dir(mg)
        assert callable(getattr(mg, name)) or name == "__version__"
        assert not (Path(mg.__file__).parent / name).exists()
        assert not (Path(mg.__file__).parent / f"{name}.py").exists()


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mmgkeras' has no attribute 'diagnose'"):
        _ = mg.diagnose


def test_read_takes_an_image_of_a_data_folder_with_what_the_table_says(quadrant_data: Path) -> None:
    mammogram = mg.read(str(quadrant_data), image_id="b")
    assert mammogram.record.patient_id == "p2"
    assert mammogram.record.spacing_mm == 0.2
    assert mammogram.pixels[0, 0] == 110
    assert mg.read(mammogram) is mammogram
    with pytest.raises(InputError, match=r"images\.csv: lists no image e"):
        mg.read(quadrant_data, image_id="e")


def test_read_takes_a_file_whose_side_is_given_or_seen_in_the_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    rows, cols = np.ogrid[:64, :64]
    pixels[(rows - 32) ** 2 + cols**2 < 30**2] = 120
    Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(tmp_path / "right.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "empty.png")
    assert mg.read(tmp_path / "right.png").record.laterality == "R"
    given = mg.read(tmp_path / "empty.png", laterality="L", view="MLO", spacing_mm=0.1).record
    assert (given.image_id, given.laterality, given.view, given.spacing_mm) == ("empty", "L", "MLO", 0.1)
    with pytest.raises(InputError, match=r"empty\.png: .*give laterality"):
        mg.read(tmp_path / "empty.png")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"laterality": "right"}, "laterality: must be one of L, R. Received: 'right'"),
        ({"view": "XX"}, "view: must be one of CC, "),
        ({"spacing_mm": -0.1}, "spacing_mm: must be a number above 0. Received: -0.1"),
        ({"spacing_mm": "0.1"}, "spacing_mm: must be a number above 0. Received: '0.1'"),
        ({"image_id": "a"}, "image_id must be given for a data folder, and for that alone. Received: a"),
    ],
)
def test_read_refuses_values_that_are_not_allowed(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    Image.fromarray(np.full((40, 30), 90, np.uint8)).save(tmp_path / "p7_L_CC.png")
    with pytest.raises(InputError, match=re.escape(told)):
        mg.read(tmp_path / "p7_L_CC.png", **options)


def test_read_refuses_what_another_place_says_already(quadrant_data: Path) -> None:
    with pytest.raises(InputError, match="spacing_mm: must not be given beside an image_id"):
        mg.read(quadrant_data, image_id="b", spacing_mm=0.1)
    mammogram = mg.read(quadrant_data, image_id="b")
    for options in ({"spacing_mm": 0.1}, {"laterality": "R"}, {"view": "CC"}, {"image_id": "a"}):
        with pytest.raises(InputError, match=f"{next(iter(options))}: must not be given beside a mammogram"):
            mg.read(mammogram, **options)  # type: ignore[arg-type]


def test_read_takes_numbers_of_numpy(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 30), 90, np.uint8)).save(tmp_path / "p7_L_CC.png")
    spacing_mm = mg.read(tmp_path / "p7_L_CC.png", spacing_mm=np.float32(0.5)).record.spacing_mm  # type: ignore[arg-type]
    assert (spacing_mm, type(spacing_mm)) == (0.5, float)


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (np.zeros((4, 5), np.float32), "(4, 5) float32"),
        (np.zeros((4, 5), np.bool_), "(4, 5) bool"),
        (np.zeros((4, 5), np.int32), "(4, 5) int32"),
        (np.zeros((4, 5, 3), np.uint8), "(4, 5, 3) uint8"),
        (np.zeros((0, 5), np.uint8), "(0, 5) uint8"),
        ([[0, 1]], "list"),
    ],
)
def test_pixels_that_are_no_mammogram_are_refused(quadrant_data: Path, pixels: Any, told: str) -> None:
    mammogram = replace(mg.read(quadrant_data, image_id="b"), pixels=pixels)
    for use in (mg.read, mg.detect, lambda given: mg.draw(given, "detector")):
        with pytest.raises(
            InputError, match=re.escape(f"b: pixels must be an array (H, W) uint8 or uint16. Received: {told}")
        ):
            use(mammogram)


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan"), "0.5"])
def test_evaluate_refuses_a_threshold_that_is_no_probability(tmp_path: Path, threshold: Any) -> None:
    with pytest.raises(InputError, match=f"threshold: must be above 0 and at most 1. Received: {threshold!r}"):
        mg.evaluate("no-model", "no-store", out=tmp_path / "out", threshold=threshold)
    assert not (tmp_path / "out").exists()


def test_evaluate_asks_for_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs at least one model"):
        mg.evaluate([], "no-store", out=tmp_path / "out")


def test_read_of_a_data_folder_asks_for_the_image(quadrant_data: Path) -> None:
    with pytest.raises(InputError, match=r"image_id must be given for a data folder.* Received: None"):
        mg.read(quadrant_data)
    with pytest.raises(InputError, match=r"no-such/images\.csv: .*No such file"):
        mg.read("no-such", image_id="a")


@pytest.mark.parametrize("threshold", [0, 95])
def test_detect_and_draw_refuse_a_threshold_that_is_no_probability(threshold: float) -> None:
    for use in (lambda: mg.detect("x.png", threshold=threshold), lambda: mg.draw("x.png", "m", threshold=threshold)):
        with pytest.raises(InputError, match="threshold: must be above 0 and at most 1"):
            use()


def test_prepare_and_split_take_a_file_or_an_object_as_configuration(quadrant_data: Path, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[patches]\npatch_px = 8\n[split]\nnum_subsets = 2\n")
    store = mg.prepare(str(quadrant_data), str(tmp_path / "store"), config=str(tmp_path / "my.toml"))
    settings = Config(patches=PatchesConfig(patch_px=8), split=SplitConfig(num_subsets=2))
    assert store.checksum == mg.prepare(quadrant_data, tmp_path / "other", config=settings).checksum
    assert mg.split(store, config=settings) == mg.split(str(tmp_path / "other"), config=tmp_path / "my.toml")
    with pytest.raises(InputError, match="already exists"):
        mg.prepare(quadrant_data, tmp_path / "store", config=settings)


def test_load_evaluate_and_draw_take_a_model_or_its_path(
    export_mean_model, quadrant_data: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    checksum = PatchStore.open(quadrant_store).checksum
    path = export_mean_model(tmp_path / "mean" / "1", changes={"store_checksum": checksum})
    model = mg.load(str(path))
    assert mg.load(model) is model
    store = PatchStore.open(quadrant_store)
    by_object = mg.evaluate(model, store, out=str(tmp_path / "one")).summary
    by_path = mg.evaluate(iter([str(path)]), str(quadrant_store), out=tmp_path / "two").summary
    files = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    assert by_object.threshold == by_path.threshold == 0.5
    mammogram = mg.read(quadrant_data, image_id="a")
    scores = model.score(mammogram)
    assert isinstance(scores, ScoreMap)
    pictures = [np.asarray(mg.draw(mammogram, what)) for what in (scores, model, str(path))]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert not np.array_equal(pictures[0], np.asarray(mg.draw(mammogram, scores, threshold=0.01)))


def test_detect_marks_as_predict_and_draw_shows_it(export_mean_model, export_finer_model, tmp_path: Path) -> None:
    from mmgkeras.inference.predict import predict

    path = export_mean_model(tmp_path / "mean" / "1")
    rows, cols = np.ogrid[:160, :160]
    disc = (rows - 80) ** 2 + cols**2 < 70**2
    Image.fromarray(np.where(disc, 100 + rows // 2, 0).astype(np.uint8)).save(tmp_path / "film_L_CC.png")
    mammogram = mg.read(tmp_path / "film_L_CC.png", spacing_mm=0.1)

    def marks_of_both() -> list[float]:
        detected = mg.detect(mammogram, path, threshold=0.55)
        (image,) = predict(
            [tmp_path / "film_L_CC.png"],
            out=tmp_path / "out",
            models=[path],
            threshold=0.55,
            spacing_mm=0.1,
            overwrite=True,
        ).images
        assert detected.marks == tuple(image.marks)
        with Image.open(tmp_path / "out" / "film_L_CC.png") as picture:
            np.testing.assert_array_equal(np.asarray(mg.draw(mammogram, detected)), np.asarray(picture))
        return [mark.probability for mark in detected.marks]

    alone = marks_of_both()
    export_finer_model(path)
    assert len(alone) == 1
    assert marks_of_both()[0] > alone[0]
    assert mg.detect(mammogram, mg.load(path)).threshold == 0.5


def test_draw_refuses_what_was_said_of_another_image(model_path: Path, tmp_path: Path) -> None:
    for name, shape in {"a_L": (40, 40), "b_L": (40, 40), "a_R": (40, 60)}.items():
        Image.fromarray(np.eye(*shape, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    a, b, wide = (mg.read(tmp_path / f"{name}.png", laterality="L") for name in ("a_L", "b_L", "a_R"))
    for found in (mg.detect(a, model_path), mg.load(model_path).score(a)):
        with pytest.raises(InputError, match=r"^b_L: scores must be of this image. Received: of a_L$"):
            mg.draw(b, found)
        with pytest.raises(InputError, match=r"^a_L: scores must be .*, 40 x 60 pixels, .* Received: of 40 x 40$"):
            mg.draw(replace(wide, record=a.record), found)


def test_draw_resamples_for_a_model_of_a_resampled_store(export_mean_model, tmp_path: Path) -> None:
    config = {"patches": {"spacing_mm": 0.2}}
    model = mg.load(export_mean_model(tmp_path / "mean" / "1", changes={"config": config}))
    rows, cols = np.ogrid[:160, :160]
    pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 100 + rows // 2, 0).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film_L_CC.png")
    mammogram = mg.read(tmp_path / "film_L_CC.png", spacing_mm=0.1)
    drawn = np.asarray(mg.draw(mammogram, model, threshold=0.6))
    scores = model.score(at_spacing(mammogram, 0.2))
    np.testing.assert_array_equal(drawn, np.asarray(mg.draw(mammogram, scores, threshold=0.6)))


def test_draw_shows_of_a_model_what_the_command_overlay_does(export_mean_model, tmp_path: Path) -> None:
    from mmgkeras.inference.marking import mark_folder

    model = export_mean_model(tmp_path / "mean" / "1")
    rows, cols = np.ogrid[:160, :160]
    pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 90, 0).astype(np.uint8)
    pixels[64:80, 16:32] = pixels[8:32, 120:150] = 255  # on the breast, and lettering beside it
    (tmp_path / "data").mkdir()
    Image.fromarray(pixels).save(tmp_path / "data" / "a.png")
    write_images(tmp_path / "data" / "images.csv", [ImageRecord("a", "a.png", "p", "L", "CC", "none", spacing_mm=0.2)])
    drawn = np.asarray(mg.draw(mg.read(tmp_path / "data", image_id="a"), model))
    assert (drawn[8:32, 120:150] == 255).all()
    with Image.open(mark_folder(model, tmp_path / "data", out=tmp_path / "out").pictures["a"]) as picture:
        np.testing.assert_array_equal(drawn, np.asarray(picture))


def test_load_knows_the_word_of_the_packages_own(monkeypatch: pytest.MonkeyPatch, model_path: Path) -> None:
    monkeypatch.setattr(
        "mmgkeras.savedmodel.detector.model_folder", lambda model: {Path("detector"): model_path}[model]
    )
    assert mg.load("detector").path == model_path


def test_fit_hands_on_the_store_and_the_configuration_and_loads_the_model(
    monkeypatch: pytest.MonkeyPatch, model_path: Path, quadrant_store: Path, tmp_path: Path
) -> None:
    from mmgkeras.training import fit as fit_module

    calls = []

    def fake_fit(store, **options):
        calls.append((store, options))
        return fit_module.Fitted(model_path, was_finished=False)

    monkeypatch.setattr(fit_module, "fit", fake_fit)
    model = mg.fit(PatchStore.open(quadrant_store), fold=2, run="run", export=tmp_path, overwrite=True)
    assert model.path == model_path
    ((store, options),) = calls
    assert store == quadrant_store
    assert options["config"] == read_config()
    assert (options["fold"], options["run"], options["export"]) == (2, Path("run"), tmp_path)
    assert options["overwrite"] is True


def test_cross_validate_names_networks_by_their_files_and_the_report_takes_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mmgkeras.crossval import cross_validate as crossval_module
    from mmgkeras.report import report as report_module

    calls = []
    monkeypatch.setattr(crossval_module, "crossval", lambda store, **options: calls.append((store, options)))
    monkeypatch.setattr(report_module, "write_report", lambda study, **options: (study, options))
    (tmp_path / "small.toml").write_text("[train]\nepochs = 2\n")
    for configs in (str(tmp_path / "small.toml"), [tmp_path / "small.toml"], {"small": read_config()}):
        assert mg.cross_validate("store", configs, out="study", folds=[1], seeds=[3]) == Path("study")
    assert [options["configs"]["small"].train.epochs for _, options in calls] == [2, 2, 10]
    assert {(store, *options["folds"], *options["seeds"]) for store, options in calls} == {(Path("store"), 1, 3)}
    for study in ("study", SimpleNamespace(folder=Path("study"))):
        assert mg.write_report(study, out="report") == (Path("study"), {"out": Path("report"), "overwrite": False})


def test_cross_validate_refuses_two_files_of_one_name(tmp_path: Path) -> None:
    files = [tmp_path / name / "net.toml" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text("")
    with pytest.raises(ConfigError, match=r"b/net\.toml: is called net, as another configuration"):
        mg.cross_validate("store", files, out=tmp_path / "study")
