"""Regions in the formats of annotation tools, by small files with hand-computed pixels."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmgkeras.errors import InputError
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import Region
from mmgkeras.sources.annotation_formats import FORMATS, Annotation
from mmgkeras.sources.data_set import ImportReport


def read(path: Path, name: str, content: Any) -> tuple[list[Annotation], list[str]]:
    """The annotations of a file with this content, and what was listed, without the file's name."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    report = ImportReport()
    found = list(FORMATS[name](path, report))
    assert all(one.source.startswith(str(path)) for one in found)
    return found, [line.removeprefix(f"{path}: ").removeprefix(f"{path}:") for line in report.skipped]


def pixels(one: Annotation) -> tuple[int, int, int, int]:
    """First and last row, first and last column that the region covers on an image of 20 x 20."""
    points = one.points
    if one.is_relative:
        points = tuple((row * 20 - 0.5, col * 20 - 0.5) for row, col in points)
    covered = region_mask(Region("i", "r", "other", one.shape, points), height=20, width=20)
    height, width = covered.mask.shape
    return covered.top, covered.top + height - 1, covered.left, covered.left + width - 1


def coco(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a/i1.png", "width": 20, "height": 20}],
        "categories": [{"id": 3, "name": "calc"}],
        "annotations": [{"image_id": 7, "category_id": 3, **one} for one in annotations],
    }


class TestCoco:
    def test_box_of_one_pixel_covers_that_pixel(self, tmp_path: Path) -> None:
        (one,), listed = read(tmp_path / "c.json", "coco", coco({"bbox": [10, 5, 1, 1]}))
        assert (one.image, one.label, one.shape, listed) == ("a/i1.png", "calc", "box", [])
        assert pixels(one) == (5, 5, 10, 10)

    def test_polygons_replace_the_box(self, tmp_path: Path) -> None:
        polygons = [[2, 3, 6, 3, 6, 8, 2, 8], [10, 10, 12, 10, 12, 12]]
        found, _ = read(tmp_path / "c.json", "coco", coco({"bbox": [0, 0, 9, 9], "segmentation": polygons}))
        assert [one.shape for one in found] == ["polygon", "polygon"]
        assert pixels(found[0]) == (3, 7, 2, 5)

    @pytest.mark.parametrize(
        ("wrong", "expected"),
        [
            ({"bbox": [1, 2, 3]}, "annotation 2: must have image_id, category_id and bbox or segmentation"),
            ({}, "annotation 2: must have image_id"),
            ({"bbox": [1, 2, 3, 4], "image_id": 8}, "annotation 2: must have image_id"),
            ({"segmentation": {"counts": [1, 2]}}, "annotation 2: a segmentation must be of polygons"),
            ({"segmentation": [[1, 2, 3, 4]]}, "annotation 2: a polygon must have 3 or more points. Received: 2"),
        ],
    )
    def test_annotation_at_fault_is_listed(self, tmp_path: Path, wrong: dict[str, Any], expected: str) -> None:
        found, (line,) = read(tmp_path / "c.json", "coco", coco({"bbox": [1, 1, 2, 2]}, wrong))
        assert line.startswith(expected)
        assert len(found) == 1

    @pytest.mark.parametrize(("part", "name"), [("images", "file_name"), ("categories", "name")])
    def test_an_id_of_two_images_or_categories_is_refused(self, tmp_path: Path, part: str, name: str) -> None:
        content = coco({"bbox": [10, 5, 1, 1]})
        content[part] *= 2
        assert len(read(tmp_path / "c.json", "coco", content)[0]) == 1
        content[part][1] = {**content[part][1], name: "other"}
        with pytest.raises(
            InputError, match=r"c\.json: an id must be of one image or category. Received: . of 'other'"
        ):
            read(tmp_path / "c.json", "coco", content)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": 1}', "[" * 100_000])
    def test_other_file_is_one_line(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(InputError, match=r"c\.json: (is not JSON|must hold images, categories and annotations)"):
            read(tmp_path / "c.json", "coco", content)


class TestYolo:
    def test_box_is_of_the_image_of_the_files_name(self, tmp_path: Path) -> None:
        (one,), _ = read(tmp_path / "i1.txt", "yolo", "0 0.5 0.25 0.1 0.2\n\n")
        assert (one.image, one.label, one.is_relative) == ("i1", "0", True)
        assert pixels(one) == (3, 6, 9, 10)

    def test_polygon(self, tmp_path: Path) -> None:
        (one,), _ = read(tmp_path / "i1.txt", "yolo", "1 0.1 0.2 0.3 0.2 0.3 0.4 0.1 0.4")
        assert (one.label, one.shape) == ("1", "polygon")
        assert pixels(one) == (4, 7, 2, 5)

    @pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "0 a b c d", "0", "0 1 2 3 4 5"])
    def test_line_at_fault_is_listed(self, tmp_path: Path, line: str) -> None:
        found, (listed,) = read(tmp_path / "i1.txt", "yolo", f"0 0.5 0.5 0.1 0.1\n{line}\n")
        assert listed.startswith("2: ")
        assert len(found) == 1


class TestVoc:
    XML = "<annotation><filename>i1.png</filename>{}</annotation>"
    OBJECT = (
        "<object><name>calc</name><bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>11</xmax><ymax>7</ymax></bndbox></object>"
    )

    def test_pixels_count_from_1(self, tmp_path: Path) -> None:
        (one,), _ = read(tmp_path / "a.xml", "voc", self.XML.format(self.OBJECT.format(10)))
        assert (one.image, one.label) == ("i1.png", "calc")
        assert pixels(one) == (4, 6, 9, 10)

    @pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-16", "utf-8-sig"])
    def test_an_encoding_that_the_file_names(self, tmp_path: Path, encoding: str) -> None:
        head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
        text = head + self.XML.format(self.OBJECT.format(10)).replace("calc", "Kälk")
        (tmp_path / "a.xml").write_bytes(text.encode(encoding))
        (one,) = FORMATS["voc"](tmp_path / "a.xml", ImportReport())
        assert one.label == "Kälk"

    @pytest.mark.parametrize("encoding", ["no-such", "utf-7"])
    def test_an_encoding_that_is_not_known_is_one_line(self, tmp_path: Path, encoding: str) -> None:
        with pytest.raises(InputError, match=r"a\.xml: is not XML"):
            read(tmp_path / "a.xml", "voc", f'<?xml version="1.0" encoding="{encoding}"?>{self.XML}')

    def test_object_at_fault_is_listed(self, tmp_path: Path) -> None:
        content = self.XML.format(self.OBJECT.format(10) + self.OBJECT.format("x") + "<object/>")
        found, listed = read(tmp_path / "a.xml", "voc", content)
        assert len(found) == 1
        assert [line.partition(". ")[0] for line in listed] == [
            "object 2: must have name and bndbox",
            "object 3: must have name and bndbox",
        ]

    def test_other_file_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.xml: is not XML"):
            read(tmp_path / "a.xml", "voc", "<a>")


def labelme(*shapes: Any) -> dict[str, Any]:
    return {"imagePath": "..\\scans\\i1.png", "shapes": list(shapes), "imageData": None}


class TestLabelme:
    @pytest.mark.parametrize(
        ("kind", "points", "shape", "expected"),
        [
            ("rectangle", [[12, 7], [10, 5]], "box", (5, 6, 10, 11)),
            ("polygon", [[2, 3], [6, 3], [6, 8], [2, 8]], "polygon", (3, 7, 2, 5)),
            ("rectangle", [[2, 3], [6, 3], [6, 8], [2, 8]], "polygon", (3, 7, 2, 5)),
            ("rotation", [[2, 3], [6, 3], [6, 8], [2, 8]], "polygon", (3, 7, 2, 5)),
            ("linestrip", [[2, 3], [6, 3], [6, 8], [2, 8]], "polygon", (3, 7, 2, 5)),
            ("circle", [[10.5, 10.5], [10.5, 13.5]], "circle", (7, 13, 7, 13)),
            ("point", [[4.5, 9.5]], "point", (9, 9, 4, 4)),
        ],
    )
    def test_shapes(self, tmp_path: Path, kind: str, points: Any, shape: str, expected: Any) -> None:
        content = labelme({"label": "calc", "points": points, "shape_type": kind})
        (one,), listed = read(tmp_path / "i1.json", "labelme", content)
        assert (one.image, one.label, one.shape, listed) == ("..\\scans\\i1.png", "calc", shape, [])
        assert pixels(one) == expected

    @pytest.mark.parametrize(
        "wrong",
        [
            {"label": "calc", "points": [[1, 2]], "shape_type": "line"},
            {"label": "calc", "points": [[1, 2]], "shape_type": "rectangle"},
            {"label": "calc", "points": [[1]], "shape_type": "point"},
            {"points": [[1, 2]], "shape_type": "point"},
            7,
        ],
    )
    def test_shape_at_fault_is_listed(self, tmp_path: Path, wrong: Any) -> None:
        good = {"label": "calc", "points": [[1, 2]], "shape_type": "point"}
        found, (line,) = read(tmp_path / "i1.json", "labelme", labelme(good, wrong))
        assert line.startswith("shape 2: ")
        assert len(found) == 1

    @pytest.mark.parametrize("content", ["[]", '{"shapes": 3}', "{}"])
    def test_other_file_is_one_line(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(InputError, match="must hold shapes, as LabelMe has them"):
            read(tmp_path / "i1.json", "labelme", content)


CIRCLE = {"name": "circle", "cx": 10, "cy": 5, "r": 2}


class TestVia:
    def test_csv(self, tmp_path: Path) -> None:
        row = json.dumps(json.dumps(CIRCLE)).replace('\\"', '""')
        content = (
            "#filename,file_size,region_count,region_id,region_shape_attributes,region_attributes\n"
            f'i1.png,1,1,0,{row},"{{""type"": ""calc""}}"\ni2.png,1,0,0,"{{}}","{{}}"\n'
        )
        (one,), listed = read(tmp_path / "v.csv", "via", content)
        assert (one.image, one.label, one.shape, listed) == ("i1.png", "calc", "circle", [])
        assert pixels(one) == (3, 7, 8, 12)

    @pytest.mark.parametrize("is_project", [False, True])
    @pytest.mark.parametrize("is_list", [False, True])
    def test_json(self, tmp_path: Path, is_project: bool, is_list: bool) -> None:
        region = {"shape_attributes": CIRCLE, "region_attributes": {"label": "calc", "reader": "B"}}
        files = {"i1.png1": {"filename": "i1.png", "regions": [region] if is_list else {"0": region}}}
        (one,), _ = read(tmp_path / "v.json", "via", {"_via_img_metadata": files} if is_project else files)
        assert (one.image, one.label) == ("i1.png", "calc")

    def test_region_at_fault_is_listed(self, tmp_path: Path) -> None:
        regions = [
            {"shape_attributes": {"name": "star"}, "region_attributes": {}},
            {"shape_attributes": CIRCLE, "region_attributes": {"a": "x", "b": "y"}},
            {"region_attributes": {}},
            7,
            {"shape_attributes": CIRCLE, "region_attributes": {}},
        ]
        found, listed = read(tmp_path / "v.json", "via", {"k": {"filename": 1, "regions": regions}})
        assert [(one.image, one.shape) for one in found] == [("1", "circle")]
        assert listed[0].startswith("1: a shape must be one of polygon")
        assert [line.startswith("1: must have shape_attributes and region_attributes. ") for line in listed[1:]] == [
            True
        ] * 3
