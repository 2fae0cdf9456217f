"""Which files `predict` replaces, removes and passes over."""

import shutil
import zlib
from pathlib import Path

import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.inference.marking import save_picture
from mmgkeras.inference.predict import predict
from tests.images.test_png import chunk


def test_results_among_the_files_of_a_store_are_refused(model: Path, films: Path) -> None:
    (films / "store.json").touch()
    with pytest.raises(InputError, match=f"{films}: is a patch store, and nothing else goes there"):
        predict([films / "one" / "=film L_CC.png"], out=films / "out", models=[model])
    assert not (films / "out").exists()


def test_results_that_are_there_stay_unless_told(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    predict([path], out=films / "out", models=[model])
    with pytest.raises(InputError, match="already exists"):
        predict([path], out=films / "out", models=[model])
    predict([path], out=films / "out", models=[model], overwrite=True)
    (films / "out" / "marks.csv").write_text("my,own\n")
    with pytest.raises(InputError, match=r"marks.csv: was not made by this command"):
        predict([path], out=films / "out", models=[model], overwrite=True)


def test_overwriting_leaves_no_result_of_an_earlier_call(model: Path, films: Path) -> None:
    paths, out = [films / "one", films / "two"], films / "out"
    predict(paths, out=out, models=[model], with_json_lines=True, with_geojson=True)
    others = ("my.png", "previews/my.png", "geojson/my.geojson")
    for name in others:
        shutil.copy(films / "one" / "=film L_CC.png", out / name)
    shutil.copy(out / "=film L_CC.png", out / "other.png")  # as overlay may have drawn it
    for some, pictures in ((paths[:1], True), (paths[:1], False)):
        predict(some, out=out, models=[model], with_pictures=pictures, overwrite=True)
        left = ["=film L_CC.png", "previews/=film L_CC.png"] if pictures else []
        expected = sorted([*left, *others, "other.png", "marks.csv", "marks.json"])
        assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == expected


def test_overwriting_leaves_no_result_whose_name_has_a_number_for_a_file_that_was_skipped(
    model: Path, films: Path
) -> None:
    (films / "one" / "=film L_CC.png").write_bytes(b"\x89PNG")
    predict([films / "one", films / "two"], out=films / "out", models=[model])
    assert (films / "out" / "=film L_CC-2.png").exists()
    predict([films / "two"], out=films / "out", models=[model], overwrite=True)
    assert [path.name for path in (films / "out").glob("*.png")] == ["=film L_CC.png"]


def test_a_picture_of_overlay_is_neither_replaced_nor_removed(model: Path, films: Path) -> None:
    path, out = films / "one" / "=film L_CC.png", films / "out"
    predict([path], out=out, models=[model], with_pictures=False)
    picture = Image.new("RGB", (9, 9))
    save_picture(picture, out / path.name)
    with pytest.raises(InputError, match=rf"{path.name}: was not made by this command"):
        predict([path], out=out, models=[model], overwrite=True)
    (films / "my.png").write_bytes(path.read_bytes())
    predict([films / "my.png"], out=out, models=[model], overwrite=True)
    assert sorted(one.name for one in out.glob("*.png")) == [path.name, "my.png"]
    done = predict([films], out=films / "again", models=[model])
    assert [image.path.parent.name for image in done.images] == [films.name, "one", "two"]


def test_a_file_that_is_reached_by_several_paths_is_marked_once_by_the_first(
    model: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(films)
    (films / "link").symlink_to("one")
    (films / "loop.png").symlink_to("loop.png")
    file = Path("one") / "=film L_CC.png"
    (films / "images.csv").write_text(f"image_id,path,patient_id,laterality,view,annotation\na,{file},p,L,CC,none\n")
    paths = [file, films / file, films / "one", Path("link") / file.name, films / "images.csv", films / "loop.png"]
    done = predict(paths, out=films / "out", models=[model])
    assert [image.path for image in done.images] == [file]
    assert list(done.skipped) == [films / "loop.png"]


def test_an_input_is_never_replaced(model: Path, films: Path) -> None:
    path = films / "one" / "=film L_CC.png"
    before = path.read_bytes()
    with pytest.raises(InputError, match="which is read"):
        predict([path], out=films / "one", models=[model], overwrite=True)
    assert path.read_bytes() == before


def test_results_may_lie_in_a_folder_that_is_read_and_are_not_read_themselves(model: Path, films: Path) -> None:
    (films / "broken.png").unlink()
    for out, overwrite in (("a", False), ("a", True), ("b", False)):
        done = predict([films], out=films / out, models=[model], overwrite=overwrite)
        assert [image.path.parent.name for image in done.images] == ["one", "two"]


def test_a_png_that_cannot_be_asked_whether_it_is_a_result_is_listed(model: Path, films: Path) -> None:
    """Its header promises 3.6 gigapixels, or a text of 128 MB."""
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes.fromhex("0000ea600000ea600800000000"))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 27)))
    small = header[:8] + chunk(b"IHDR", bytes.fromhex("00000009000000090800000000"))
    for name, head in (("huge", header), ("text", small + text)):
        (films / f"{name}.png").write_bytes(head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b""))
    done = predict([films], out=films / "marked", models=[model])
    assert sorted(path.name for path in done.skipped) == ["broken.png", "huge.png", "text.png"]
    assert len(done.images) == 2


def test_results_go_to_no_folder_of_mammograms(model: Path, films: Path) -> None:
    cases = ((films, films, "is"), (films, films / "one", "holds"), (films / "one", films, "holds"))
    for read, out, how in cases:
        with pytest.raises(InputError, match=f"{out}: {how} .*, which is read; name another place"):
            predict([read], out=out, models=[model], overwrite=True)
    assert not list(films.rglob("marks.csv"))
