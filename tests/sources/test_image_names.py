"""Which image an annotation means, and where it cannot be told."""

import pytest

from mmgkeras.errors import InputError
from mmgkeras.sources.image_names import ImageNames, full_name

TWO = ("P1/cc.png", "P2/cc.png")


def meant(paths: tuple[str, ...], *called: str, pattern: str = "**/*") -> list[str | None]:
    """The image of each name, None for none."""
    names = ImageNames(paths, pattern=pattern, called=called)

    def image_of(one: str) -> str | None:
        try:
            return names.image_of(one)
        except InputError:
            return None

    return list(map(image_of, called))


@pytest.mark.parametrize("called", ["P1/cc.png", "P1/cc", "P1/cc.jpg", "P1/cc.BMP", "data/set/P1/cc.png"])
def test_the_folder_tells_which_of_two_images_is_meant(called: str) -> None:
    assert meant(TWO, called) == ["P1/cc.png"]


@pytest.mark.parametrize("called", ["cc.png", "cc", "P3/cc.png", "x/cc.png", "P1/mlo.png", "P1", "", "/"])
def test_what_may_be_another_image_is_none(called: str) -> None:
    assert meant(TWO, called) == [None]


@pytest.mark.parametrize("called", ["P2/cc.png", "data/P2/cc.png", "P2/cc", "P2/P1x/cc.png"])
def test_the_one_image_of_a_name_is_not_that_of_another_folder(called: str) -> None:
    assert meant(("P1/cc.png",), called) == [None]
    assert meant(("P1/cc.png", "P2/mlo.png"), called) == [None]


@pytest.mark.parametrize("called", ["P1/cc.png", "P1/cc", "a/scans/P1/cc.png"])
def test_a_path_may_begin_at_a_deeper_or_higher_folder(called: str) -> None:
    assert meant(("scans/P1/cc.png", "scans/P2/cc.png"), called) == ["scans/P1/cc.png"]


def test_a_name_is_enough_if_one_image_alone_has_it() -> None:
    assert meant(("P1/cc.png", "P2/mlo.png"), "cc.png", "mlo") == ["P1/cc.png", "P2/mlo.png"]
    assert meant(("P1/cc.png", "P1/cc.tif"), "cc", "cc.tif", "P1/cc", "P1/cc.tif") == [
        None,
        "P1/cc.tif",
        None,
        "P1/cc.tif",
    ]


@pytest.mark.parametrize(("folder", "pattern"), [("", "**/*"), ("", "*.png"), ("flat/", "flat/*.png")])
def test_images_that_moved_into_one_folder_are_found(folder: str, pattern: str) -> None:
    paths = (f"{folder}1.png", f"{folder}2.png")
    assert meant(paths, "old/1.png", "older/2.jpg", pattern=pattern) == list(paths)


@pytest.mark.parametrize(("folder", "pattern"), [("", "**/*"), ("flat/", "flat/*.png")])
def test_names_of_two_folders_do_not_end_at_one_image(folder: str, pattern: str) -> None:
    paths = (f"{folder}cc.png", f"{folder}mlo.png")
    assert meant(paths, "P1/cc.png", "P2/cc", "P2/mlo", pattern=pattern) == [None, None, f"{folder}mlo.png"]
    own = f"{folder}cc.png"
    assert meant(paths, own, "P2/cc.png", pattern=pattern) == [own, None]
    assert meant(("P1/cc.png",), "a/P1/cc.png", "b/P1/cc.png", "P1/cc.png") == [None, None, "P1/cc.png"]


def test_an_image_outside_the_folders_is_none_of_theirs() -> None:
    assert meant(("cc.png", "P1/cc.png"), "P2/cc.png", "P1/cc.png", "a/P1/cc.png") == [None, "P1/cc.png", None]


def test_the_part_of_a_name_behind_a_dot_is_no_ending_unless_images_have_it() -> None:
    assert meant(("1.2.3.dcm", "1.2.dcm"), "1.2.3", "1.2.3.dcm", "1.2.4") == ["1.2.3.dcm", "1.2.3.dcm", None]


def test_faults_say_what_was_received() -> None:
    names = ImageNames(("cc.png", "P1/mlo.png"), pattern="**/*", called=("P1/cc.png", "P2/cc.png"))
    with pytest.raises(InputError, match=r"Received: 'P2/mlo.png'; by its name alone it may be P1/mlo\.png$"):
        names.image_of("P2/mlo.png")
    with pytest.raises(InputError, match=r"one of the folder's, and one alone\. Received: 'x'$"):
        names.image_of("x")
    rule = r"the image cc\.png must be named with one folder\. Received: 'P1/cc\.png' and 'P2/cc\.png'"
    with pytest.raises(InputError, match=rule):
        names.image_of("P1/cc.png")


@pytest.mark.parametrize(
    ("called", "file", "pattern", "expected"),
    [
        ("cc.png", "boxes.csv", "boxes.csv", "cc.png"),
        ("cc.png", "P1/cc.json", "*/*.json", "P1/cc.png"),
        ("cc", "labels/cc.txt", "labels/*.txt", "cc"),
        ("cc", "labels/train/cc.txt", "labels/**/*.txt", "train/cc"),
        (r"..\images\cc.png", "P1/json/cc.json", "*/json/*.json", "P1/images/cc.png"),
        ("../../cc.png", "json/cc.json", "json/*.json", "cc.png"),
        ("../images/cc.png", "../labels/cc.json", "../labels/*.json", "images/cc.png"),
        ("/data/P1/cc.png", "P2/cc.json", "*/*.json", "data/P1/cc.png"),
        (r"C:\data\P1\cc.png", "P2/cc.json", "*/*.json", "C:/data/P1/cc.png"),
        (" ./P1//cc.png ", "boxes.csv", "boxes.csv", "P1/cc.png"),
        ("", "P1/boxes.csv", "*/boxes.csv", ""),
    ],
)
def test_full_names(called: str, file: str, pattern: str, expected: str) -> None:
    assert full_name(called, file=file, pattern=pattern) == expected


def test_what_follows_a_dot_is_an_ending_only_where_images_have_it() -> None:
    names = ImageNames(["scans/1.2.840.7", "scans/IM0001"], pattern="scans/*", called=[])
    assert names.image_of("1.2.840.7") == "scans/1.2.840.7"
    for called in ("1.2.840", ""):
        with pytest.raises(InputError):
            names.image_of(called)
