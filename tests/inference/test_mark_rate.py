import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.inference.mark_rate import THRESHOLDS, choose_for_marks, place_within
from mmgkeras.inference.predict import predict
from mmgkeras.schema import ImageRecord
from mmgkeras.tables import write_images


@pytest.fixture
def screening(tmp_path: Path) -> Path:
    """Three films of a breast with bright patches, by the model of 0.731, 0.674 and 0.601, of 0.637, and of none."""
    rows, cols = np.ogrid[:160, :160]
    for name, grays in {"a": (255, 220, 180), "b": (200,), "c": ()}.items():
        pixels = np.where((rows - 80) ** 2 + cols**2 < 70**2, 90, 0).astype(np.uint8)
        for place, gray in enumerate(grays):
            pixels[48 + 24 * place : 56 + 24 * place, 16:24] = gray
        (tmp_path / "films").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "films" / f"{name}_L_CC.png")
    return tmp_path / "films"


@pytest.mark.parametrize(("per_image", "num_marks", "between"), [(0.34, 1, (0.674, 0.731)), (0.7, 2, (0.637, 0.674))])
def test_predict_makes_as_many_marks_at_the_threshold_and_more_at_a_lower_one(
    model: Path, screening: Path, tmp_path: Path, per_image: float, num_marks: int, between: Sequence[float]
) -> None:
    chosen = choose_for_marks(model, [screening], per_image=per_image, spacing_mm=0.2)
    point = chosen.operating_point
    assert (point.kind, point.target) == ("marks_per_image", per_image)
    assert between[0] < point.threshold <= between[1]
    assert (chosen.num_images, chosen.num_marks, chosen.skipped) == (3, num_marks, {})
    lower = THRESHOLDS[list(THRESHOLDS).index(point.threshold) + 1]
    for threshold, number in ((point.threshold, num_marks), (lower, num_marks + 1)):
        done = predict(
            [screening],
            out=tmp_path / str(number),
            models=[model],
            spacing_mm=0.2,
            threshold=threshold,
            with_pictures=False,
        )
        assert sum(len(image.marks) for image in done.images) == number


def test_the_finer_model_is_asked_where_an_image_is_as_fine(
    model: Path, screening: Path, tmp_path: Path, export_finer_model: Callable[[Path], Path]
) -> None:
    own = Path(shutil.copytree(model, tmp_path / "mean" / "1"))
    export_finer_model(own)  # whose log odds are higher by 1
    coarse, fine = (
        choose_for_marks(own, [screening], per_image=0.34, spacing_mm=spacing_mm) for spacing_mm in (0.2, 0.2 * 2 / 3)
    )
    assert fine.operating_point.threshold > 0.7 >= coarse.operating_point.threshold


@pytest.mark.parametrize(("of_a", "of_others"), [("benign", None), ("benign", "normal"), (None, "Normal")])
def test_what_is_not_called_normal_is_left_out_and_what_cannot_be_read_is_listed(
    model: Path, screening: Path, of_a: str | None, of_others: str | None
) -> None:
    (screening / "bad.png").write_bytes(b"\x89PNG")
    record = ImageRecord("c", "c_L_CC.png", "p", "L", "CC", "none", spacing_mm=0.2, pathology=of_others)
    rows = [
        record,
        replace(record, image_id="b", path="b_L_CC.png"),
        replace(record, image_id="a", path="a_L_CC.png", pathology=of_a),
        replace(record, image_id="bad", path="bad.png"),
    ]
    write_images(screening / "images.csv", rows)
    chosen = choose_for_marks(model, [screening], per_image=0.5)
    assert (chosen.num_images, chosen.num_marks) == (2, 1)
    assert list(chosen.skipped) == [screening / "bad.png"]
    assert chosen.skipped[screening / "bad.png"].startswith("is damaged or cut short")
    notes = "\n".join(chosen.notes)
    assert "left out, not called normal: 1 of 4 mammograms" in notes
    assert "chance decides; give 20 mammograms" in notes
    assert "no lower threshold than 0.5 is tried" in notes
    assert "on whom the model is tested cannot be told" in notes
    assert "pixel size" not in notes
    assert "pixel size of 1 is not known" in "\n".join(
        choose_for_marks(model, [screening / "c_L_CC.png"], per_image=0.5).notes
    )


def test_nothing_to_choose_from_is_said(model: Path, screening: Path) -> None:
    (screening / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="no mammogram is left"):
        choose_for_marks(model, [screening / "bad.png"], per_image=0.5)


def test_files_of_which_none_can_be_read_are_listed(model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}_L.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="no mammogram is left") as fault:
        choose_for_marks(model, [tmp_path], per_image=1)
    assert [line.partition(": is damaged")[0] for line in str(fault.value).splitlines()[1:]] == [
        f"{tmp_path / 'a_L.png'}",
        f"{tmp_path / 'b_L.png'}",
    ]


def test_as_many_mammograms_are_asked_for_as_are_enough(model: Path, screening: Path) -> None:
    told = choose_for_marks(model, [screening], per_image=0.7, spacing_mm=0.2).notes
    assert any(note.endswith("chance decides; give 15 mammograms") for note in told)


def test_marks_that_grow_into_one_another_do_not_count_as_fewer() -> None:
    counts = np.zeros(len(THRESHOLDS), np.int64)
    counts[[3, 4, 5]] = 3, 5, 1
    assert place_within(counts, most=3) == 3
    assert place_within(counts, most=4.9) == 3
    assert place_within(counts, most=5) == len(THRESHOLDS) - 1
    counts[0] = 6
    assert place_within(counts, most=5) is None


def test_a_number_of_marks_is_reached_though_floating_point_makes_a_little_less_of_it() -> None:
    assert 0.29 * 100 < 29
    assert place_within(np.full(len(THRESHOLDS), 29), most=0.29 * 100) == len(THRESHOLDS) - 1
