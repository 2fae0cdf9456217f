"""A data folder with faults planted in it, by a program that knows nothing of what looks for them."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mmgkeras.sources.phantom import write_phantom

Rows = list[dict[str, str]]


def make_clean(folder: Path, *, num_patients: int = 16, spacing_mm: float = 0.4) -> Path:
    """Phantoms of sixteen patients, 8 bits, with their marks."""
    write_phantom(folder, num_patients=num_patients, seed=3, spacing_mm=spacing_mm, bits=8)
    return folder


def plant(folder: Path) -> list[tuple[str, str]]:
    """Plants one fault in each of some images of a clean folder; gives what was planted, (image_id or "", kind)."""
    images, regions = read(folder / "images.csv"), read(folder / "regions.csv")
    cc = [row for row in images if row["view"] == "CC"]
    mlo = [row for row in images if row["view"] == "MLO"]
    marked = [row for row in images if any(r["image_id"] == row["image_id"] for r in regions)]
    planted: list[tuple[str, str]] = []
    free = {row["image_id"]: row for row in images}

    def take(rows: Rows, kind: str) -> dict[str, str]:
        row = next(row for row in rows if row["image_id"] in free)
        del free[row["image_id"]]
        planted.append((row["image_id"], kind))
        return row

    def change(row: dict[str, str], of: Callable[[np.ndarray], np.ndarray]) -> None:
        path = folder / row["path"]
        pixels = of(np.asarray(Image.open(path)))
        path.unlink()
        Image.fromarray(pixels).save(path)

    def add_region(row: dict[str, str], points: str, image_id: str | None = None) -> None:
        name = image_id or row["image_id"]
        regions.append(
            {"image_id": name, "region_id": "planted", "kind": "calcification", "shape": "point", "points": points}
        )

    def size(row: dict[str, str]) -> tuple[int, int]:
        with Image.open(folder / row["path"]) as image:
            return image.height, image.width

    original = images[-1]
    copy = take(cc, "same pixels")
    (folder / copy["path"]).write_bytes((folder / original["path"]).read_bytes())
    copy.update({key: original[key] for key in ("laterality", "view", "chest_wall")})
    regions[:] = [region for region in regions if region["image_id"] != copy["image_id"]]
    del free[original["image_id"]]
    planted[-1] = (original["image_id"], "same pixels")  # of two, the later one in the table is told
    source = images[-2]
    similar = take(mlo, "nearly the same pixels")
    brighter = np.clip(np.asarray(Image.open(folder / source["path"])) * 0.9 + 6, 0, 255).astype(np.uint8)[2:, 2:]
    Image.fromarray(brighter).save(folder / similar["path"])
    similar.update({key: source[key] for key in ("laterality", "view", "chest_wall")})
    regions[:] = [region for region in regions if region["image_id"] != similar["image_id"]]
    del free[source["image_id"]]
    planted[-1] = (source["image_id"], "nearly the same pixels")
    for row in (take(cc, "side"),):
        change(row, lambda pixels: pixels[:, ::-1])
        regions[:] = [region for region in regions if region["image_id"] != row["image_id"]]
    row = take(mlo, "view")
    row["view"] = "CC"
    change(take(cc, "inverted image"), lambda pixels: 255 - pixels)
    change(take(cc, "blank image"), np.zeros_like)
    change(take(mlo, "blank image"), lambda pixels: np.full_like(pixels, 255))
    change(take(mlo, "saturated image"), lambda pixels: np.where(pixels > 90, 255, pixels).astype(np.uint8))
    change(take(mlo, "bright border"), framed)
    change(take(cc, "narrow range"), lambda pixels: pixels.astype(np.uint16) * 16)
    planted.append(("", "mixed depths"))
    row = take(cc, "region off the breast")
    add_region(row, "2,2")
    row = take(mlo, "rows and columns swapped")
    height, width = size(row)
    add_region(row, f"{5 if row['laterality'] == 'L' else width - 6},{height // 2}")
    planted.append((row["image_id"], "annotation"))
    row = take(mlo, "annotation")
    add_region(row, f"{size(row)[0] + 3},4")
    add_region(row, "4,4", "nobody")
    planted.append(("", "unknown image"))
    row = take(marked, "called normal")
    row["pathology"] = "normal"
    row = take([row for row in images if row not in marked], "called calcified")
    row["pathology"] = "suspicious calcifications"
    take(images, "pixel size")["spacing_mm"] = "4"
    next(row for row in images if row["image_id"] in free)["spacing_mm"] = ""
    planted.append(("", "pixel size"))
    path = folder / next(row for row in images if row["image_id"] in free)["path"]
    Image.open(path).save(path, "JPEG", quality=95)
    planted.append(("", "compressed with loss"))
    path = folder / take(images, "image")["path"]
    path.write_bytes(path.read_bytes()[:-2000])
    (folder / take(images, "image")["path"]).unlink()
    row = images[0]
    row["patient_id"] = row["patient_id"].lower()
    planted.append(("", "ids that look alike"))
    write(folder / "images.csv", images)
    write(folder / "regions.csv", regions)
    return planted


def framed(pixels: np.ndarray) -> np.ndarray:
    """With a white frame of a fortieth of the shorter side."""
    edge = max(2, min(pixels.shape) // 40)
    out = np.full_like(pixels, 255)
    out[edge:-edge, edge:-edge] = pixels[edge:-edge, edge:-edge]
    return out


def read(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
