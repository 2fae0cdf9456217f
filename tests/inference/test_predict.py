import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main
from PIL import Image
from pydicom import dcmread

from mmgkeras.errors import InputError
from mmgkeras.images import Input, Single
from mmgkeras.inference import marker
from mmgkeras.inference.detection import Detection
from mmgkeras.inference.predict import predict
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.servable import servables
from mmgkeras.service.rest_api import RestApi
from mmgkeras.service.serving import open_server
from tests.pacs.readings import write_source
from tests.service.conftest import serving


def test_files_alone_are_marked_and_a_bad_one_is_listed(
    model: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(films))
    paths = [films / "one" / "=film L_CC.png", films / "broken.png", films / "two" / "=film L_CC.png"]
    done = predict([*paths, paths[0]], out=films / "marked", models=[model])
    assert [image.path for image in done.images] == [paths[0], paths[2]]
    assert list(done.skipped) == [films / "broken.png"]
    assert [image.name for image in done.images] == ["=film L_CC", "=film L_CC-2"]
    assert all((films / "marked" / f"{image.name}.png").is_file() for image in done.images)
    assert len(list((films / "marked" / "previews").iterdir())) == 2
    marks = pd.read_csv(films / "marked" / "marks.csv")
    assert marks[["mark", "top", "left", "bottom", "right"]].to_numpy().tolist() == [[1, 64, 16, 80, 32]] * 2
    written = json.loads((films / "marked" / "marks.json").read_text())
    assert [image["marks"][0]["top"] for image in written["images"]] == [64, 64]
    assert written["images"][0]["laterality_from"] == "the name"
    assert written["skipped"][0]["path"] == "~/broken.png"
    assert str(films) not in (films / "marked" / "marks.json").read_text()
    assert str(films) not in (films / "marked" / "marks.csv").read_text()
    assert written["threshold"] == 0.5
    assert "pixel size of 2 images is not known" in done.notes[0]


def test_a_name_that_is_no_utf8_is_marked_like_any_other(model: Path, films: Path) -> None:
    """As a ZIP of an old Windows leaves them: in Latin-1."""
    for name in (b"M\xfc_CC.png", b"M\xe4_CC.png"):
        shutil.copy(films / "one" / "=film L_CC.png", films / os.fsdecode(name))
    (films / "broken.png").rename(films / os.fsdecode(b"\xff.png"))
    arguments = ["predict", str(films), "--out", str(films / "out"), "--model", str(model), "--json-lines", "--geojson"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert f"{films}/M\\udcfc_CC.png: 1 mark" in result.stdout
    assert f"error: {films}/\\udcff.png: is damaged" in result.stderr
    for place in ("{}.png", "previews/{}.png", "geojson/{}.geojson"):
        assert all((films / "out" / place.format(stem)).is_file() for stem in ("M%FC_CC", "M%E4_CC"))
    names = ("M\\udce4_CC.png", "M\\udcfc_CC.png", "one/=film L_CC.png", "two/=film L_CC.png")
    paths = [f"{films}/{name}" for name in names]
    assert pd.read_csv(films / "out" / "marks.csv")["image"].tolist() == paths
    written = json.loads((films / "out" / "marks.json").read_bytes())
    assert [image["path"] for image in written["images"]] == paths
    assert written["skipped"][0]["path"] == f"{films}/\\udcff.png"
    lines = (films / "out" / "marks.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["path"] for line in lines] == paths


def test_the_line_of_an_image_says_what_was_taken_for_granted(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    (image,) = predict([path], out=films / "a", models=[model], laterality="R", spacing_mm=0.1).images
    assert image.line() == (
        f"{path}: 1 mark, the first with probability 0.73; right breast by the option, hanging mirrored; "
        "0.1 mm a pixel, resampled to 0.2"
    )


def test_jpeg_is_told_of_where_its_damage_is_not_averaged_away(
    model: Path, films: Path, export_finer_model: Callable[[Path], Path]
) -> None:
    path = films / "film L_CC.png"  # as some archives name them
    Image.open(films / "one" / "=film L_CC.png").save(path, "JPEG")
    with_finer = Path(shutil.copytree(model, films / "mine" / "1"))
    export_finer_model(with_finer)  # of 0.133 mm, asked up to 0.147 mm
    note = (
        "1 image hardly finer than the model's pixels was compressed with loss: that may have hidden small "
        "calcifications"
    )
    coarse = {model: (0.16, 0.2), with_finer: (0.11, 0.1333, 0.14, 0.16, 0.2)}
    fine = {model: (0.1, 0.14, 0.15), with_finer: (0.05, 0.1, 0.1001, 0.15)}
    for expected, sizes in (([note], coarse), ([], fine)):
        for one, mms in sizes.items():
            for mm in mms:
                assert predict([path], out=films / "out", models=[one], spacing_mm=mm, overwrite=True).notes == expected


def test_marks_an_image_are_asked_of_the_detector_alone(model: Path, films: Path) -> None:
    with pytest.raises(InputError, match="of the detector alone"):
        predict([films / "x.png"], out=films / "out", models=[model], marks_per_image=1.0)


def test_the_command_prints_a_line_an_image_and_exits_with_1_after_a_bad_one(model: Path, films: Path) -> None:
    good, bad = str(films / "one" / "=film L_CC.png"), str(films / "broken.png")
    result = CliRunner().invoke(main, ["predict", bad, good, "--model", str(model), "--out", str(films / "out")])
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{good}: 1 mark, ")
    assert f"error: {bad}: " in result.stderr
    arguments = ["predict", good, "--model", str(model), "--threshold", "0.9996", "--out", str(films / "none")]
    assert "note: marked from a probability of 0.99960; results" in CliRunner().invoke(main, arguments).stderr
    assert CliRunner().invoke(main, ["predict"]).exit_code == 2


def test_a_server_gives_the_same_files(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    predict([path], out=films / "here", models=[model], with_geojson=True)
    api = RestApi.of(servables(load(model), name="mine", version=1))
    with serving(api) as (host, port):
        url = f"http://{host}:{port}"
        predict([path], out=films / "there", models=[Path("mine")], server=url, with_geojson=True)
    for name in ("marks.csv", "geojson/=film L_CC.geojson", "=film L_CC.png"):
        assert (films / "there" / name).read_bytes() == (films / "here" / name).read_bytes()
    here, there = (json.loads((films / place / "marks.json").read_text()) for place in ("here", "there"))
    assert there.pop("model") == {"server": url, "name": "mine", "version": "1", "store_checksum": "0" * 64}
    assert here.pop("model")["network"] == "mean"
    assert there == here


def test_a_server_that_has_the_finer_model_gives_the_same_marks_of_a_fine_image(
    model: Path, films: Path, export_finer_model: Callable[[Path], Path]
) -> None:
    own = Path(shutil.copytree(model, films / "models" / "mine" / "1"))
    export_finer_model(own)
    path = films / "one" / "=film L_CC.png"
    options = {"spacing_mm": 0.2 * 2 / 3, "with_pictures": False}
    (here,) = predict([path], out=films / "here", models=[own], **options).images
    server = open_server(own, host="127.0.0.1", port=0)
    assert server.models == ["mine", "mine-patches", "mine-finer", "mine-finer-patches"]
    server.listening.close()
    with serving(server.api) as (host, port):
        url = f"http://{host}:{port}"
        (there,) = predict([path], out=films / "there", models=[Path("mine/1")], server=url, **options).images
    assert there.marks == here.marks
    assert here.marks[0].probability > 0.731  # which the coarser one cannot reach
    told = json.loads((films / "there" / "marks.json").read_text())["model"]
    assert told["finer"]["name"] == "mine-finer"


def test_a_stride_that_no_model_takes_is_refused_before_any_result_is_replaced(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    predict([path], out=films / "out", models=[model])
    before = sorted((found, found.stat().st_mtime_ns) for found in (films / "out").rglob("*"))
    with pytest.raises(InputError, match=rf"^{model}: takes a stride of 1 to 8 pixels. Received: 9$"):
        predict([path], out=films / "out", models=[model], stride_px=9, overwrite=True)
    assert sorted((found, found.stat().st_mtime_ns) for found in (films / "out").rglob("*")) == before


def test_another_stride_is_refused_of_a_server_before_any_result_is_replaced(model: Path, films: Path) -> None:
    path, mine = films / "one" / "=film L_CC.png", Path("mine")
    with serving(RestApi.of(servables(load(model), name="mine", version=1))) as (host, port):
        url = f"http://{host}:{port}"
        predict([path], out=films / "out", models=[mine], server=url)
        with pytest.raises(InputError, match=r"divides by a stride of 8 pixels alone. Received: 4"):
            predict([path], out=films / "out", models=[mine], server=url, stride_px=4, overwrite=True)
    assert (films / "out" / "=film L_CC.png").exists()


def test_several_models_are_averaged_if_they_divide_alike(
    model: Path, films: Path, tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]
) -> None:
    path = films / "one" / "=film L_CC.png"
    other = export_mean_model(tmp_path_factory.mktemp("models") / "1", changes={"pixel_type": "uint16"})
    (one,) = predict([path], out=films / "a", models=[model]).images
    (both,) = predict([path], out=films / "b", models=[model, other]).images
    assert both.marks[0].probability == pytest.approx(one.marks[0].probability, abs=1e-5)
    assert len(json.loads((films / "b" / "marks.json").read_text())["models"]) == 2
    coarse = export_mean_model(tmp_path_factory.mktemp("models") / "1", changes={"stride_px": 4})
    with pytest.raises(InputError, match=r"averaged only if they have the same stride_px. Received: 4, 8"):
        predict([path], out=films / "c", models=[model, coarse])


def test_files_on_request(model: Path, films: Path) -> None:
    paths = [films / "one", films / "two"]
    predict(paths, out=films / "out", models=[model], with_pictures=False, with_json_lines=True, with_geojson=True)
    written = sorted(path.relative_to(films / "out").as_posix() for path in (films / "out").rglob("*.*"))
    names = ["geojson/=film L_CC-2.geojson", "geojson/=film L_CC.geojson", "marks.csv", "marks.json", "marks.jsonl"]
    assert written == names
    lines = (films / "out" / "marks.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == json.loads((films / "out" / "marks.json").read_text())["images"]
    (feature,) = json.loads((films / "out" / names[0]).read_text())["features"]
    assert feature["geometry"]["coordinates"] == [[[16, 64], [32, 64], [32, 80], [16, 80], [16, 64]]]
    assert feature["properties"]["objectType"] == "annotation"
    predict(paths, out=films / "out", models=[model], with_json_lines=True, with_geojson=True, overwrite=True)
    (films / "out" / names[0]).write_text("{}")
    with pytest.raises(InputError, match="was not made by this command"):
        predict(paths, out=films / "out", models=[model], with_geojson=True, overwrite=True)


class TestDicomOut:
    def test_results_of_dicom_files_alone_go_to_the_folder(self, deep_model_path: Path, films: Path) -> None:
        source, png = write_source(films / "a.dcm"), films / "one" / "=film L_CC.png"
        done = predict(
            [source, png], out=films / "out", models=[deep_model_path], threshold=0.01, dicom_out=films / "results"
        )
        assert [image.path for image in done.images] == [source]
        assert "must be DICOM" in done.skipped[png]
        assert sorted(path.name for path in (films / "results").iterdir()) == ["a-sc.dcm", "a-seg.dcm", "a-sr.dcm"]
        report = dcmread(films / "results" / "a-sr.dcm")
        assert report.PatientID == "4711"
        marks = pd.read_csv(films / "out" / "marks.csv")
        assert len(marks) == len(dcmread(films / "results" / "a-seg.dcm").SegmentSequence) >= 1

    def test_results_may_lie_in_a_folder_that_is_read_and_are_not_read_themselves(
        self, deep_model_path: Path, tmp_path: Path
    ) -> None:
        study = tmp_path / "study"
        study.mkdir()
        source = write_source(study / "a.dcm")
        for number_before, results in ((0, "results"), (7, "results"), (7, "others")):
            done = predict(
                [study],
                out=study / "marked",
                models=[deep_model_path],
                threshold=0.01,
                dicom_out=study / results,
                overwrite=bool(number_before),
            )
            assert ([image.path for image in done.images], done.skipped) == ([source], {})
            told = f"{study}: passed over {number_before} of {number_before + 1} files, no image or a result of this"
            assert [note for note in done.notes if told in note] == [f"{told} command"] * bool(number_before)

    def test_overwriting_leaves_no_result_of_an_image_that_is_not_asked_for_again(
        self, deep_model_path: Path, films: Path
    ) -> None:
        a, b, results = write_source(films / "a.dcm"), write_source(films / "b.dcm"), films / "results"
        marked = partial(predict, out=films / "out", models=[deep_model_path], threshold=0.01, dicom_out=results)
        marked([a, b])
        shutil.copy(results / "b-sr.dcm", results / "mine-sr.dcm")
        (results / "b-sc.dcm").write_bytes(b"mine")
        marked([a], overwrite=True)
        left = ["a-sc.dcm", "a-seg.dcm", "a-sr.dcm", "b-sc.dcm", "mine-sr.dcm"]
        assert sorted(path.name for path in results.iterdir()) == left

    def test_tables_console_and_pictures_name_no_patient(
        self, deep_model_path: Path, films: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        source = write_source(
            films / "a.dcm", PatientName="SECRET^NAME", PatientID="SECRET-ID", AccessionNumber="SECRET"
        )
        arguments = [str(source), "--model", str(deep_model_path), "--out", str(films / "out"), "--threshold", "0.01"]
        result = CliRunner().invoke(main, ["predict", *arguments, "--dicom-out", str(films / "results")])
        assert result.exit_code == 0, result.output
        told = result.output + "".join(capfd.readouterr())
        told += (films / "out" / "marks.csv").read_text() + (films / "out" / "marks.json").read_text()
        assert "SECRET" not in told
        assert "19600102" not in told
        assert b"SECRET" not in (films / "out" / "a.png").read_bytes()

    def test_a_folder_that_holds_the_images_is_refused(self, deep_model_path: Path, films: Path) -> None:
        source = write_source(films / "a.dcm")
        with pytest.raises(InputError, match="which is read"):
            predict([source], out=films / "out", models=[deep_model_path], dicom_out=films)

    def test_without_the_extra_it_says_how_to_install_it(
        self, deep_model_path: Path, films: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, "mmgkeras.pacs.dicom_results", raising=False)
        monkeypatch.setitem(sys.modules, "highdicom", None)
        source = write_source(films / "a.dcm")
        with pytest.raises(InputError, match=r"--dicom-out needs highdicom.*pip install 'mmgkeras\[pacs\]'"):
            predict([source], out=films / "out", models=[deep_model_path], dicom_out=films / "results")
        assert not (films / "out").exists()

    def test_of_several_models_or_a_server_there_are_none(self, deep_model_path: Path, films: Path) -> None:
        source = write_source(films / "a.dcm")
        with pytest.raises(InputError, match="name one model and its file"):
            predict([source], out=films / "out", models=[deep_model_path] * 2, dicom_out=films / "results")
        assert not (films / "results").exists()


def test_the_next_mammogram_is_read_while_one_is_scored(
    model: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_is_read = threading.Event()
    read, score = Input.read, marker.score

    def reading(one: Input, **told: Any) -> Single:
        if one.path.parent.name == "two":
            next_is_read.set()
        return read(one, **told)

    def scoring(*given: Any) -> Detection:
        assert next_is_read.wait(60)
        return score(*given)

    monkeypatch.setattr(Input, "read", reading)
    monkeypatch.setattr(marker, "score", scoring)
    done = predict([films / "one", films / "two"], out=films / "out", models=[model], with_pictures=False)
    assert len(done.images) == 2


def test_openvino_scores_two_mammograms_at_once(model: Path, films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, score = threading.Barrier(2), marker.score

    def scoring(*given: Any) -> Detection:
        both.wait(60)
        return score(*given)

    paths = [films / "one", films / "two"]
    expected = predict(paths, out=films / "a", models=[model], with_pictures=False)
    monkeypatch.setattr(marker, "score", scoring)
    received = predict(paths, out=films / "b", models=[model], engine="openvino", with_pictures=False)
    assert [image.marks for image in received.images] == [image.marks for image in expected.images]


def test_bfloat16_is_asked_of_models_here(model: Path, films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, bool]] = []
    monkeypatch.setattr("tensorflow.config.optimizer.set_experimental_options", asked.append)
    path = films / "one" / "=film L_CC.png"
    predict([path], out=films / "out", models=[model], in_bfloat16=True)
    assert asked == [{"auto_mixed_precision_onednn_bfloat16": True}]
    for asked_for in ({"in_bfloat16": True}, {"engine": "openvino"}):
        with pytest.raises(InputError, match="a server computes as it was told to when it was started"):
            predict([path], out=films / "there", server="http://127.0.0.1:9", **asked_for)


def test_openvino_finds_the_same_marks(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    (expected,) = predict([path], out=films / "a", models=[model]).images
    (received,) = predict([path], out=films / "b", models=[model], engine="openvino").images
    assert received.marks == expected.marks


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_a_finer_model_beside_a_model_is_asked_of_fine_images(
    model: Path, films: Path, export_finer_model: Callable[[Path], Path], engine: marker.Engine
) -> None:
    with_finer = Path(shutil.copytree(model, films / "mine" / "1"))
    export_finer_model(with_finer)
    found = [
        predict([films / "one"], out=films / out, models=[one], spacing_mm=spacing_mm, engine=engine).images[0].marks
        for out, one, spacing_mm in (("a", model, 0.1), ("b", with_finer, 0.1), ("c", with_finer, 0.2))
    ]
    told = [json.loads((films / out / "marks.json").read_text())["model"] for out in "ab"]
    identity = {"network": "mean", "store_checksum": "0" * 64}
    assert told == [identity, identity | {"finer": identity}]
    own, finer = (1 / (1 + np.exp(-odds)) for odds in (1, 2))
    assert [marks[0].probability for marks in found] == pytest.approx([own, finer, own], abs=1e-4)
