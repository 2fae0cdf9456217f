"""The pages: lines that fit, links that lead somewhere, keys and commands that exist, an example that runs."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmgkeras.cli import main
from PIL import Image

import mmgkeras
from mmgkeras.config import Config
from mmgkeras.savedmodel.metadata import ModelMetadata
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import write_images, write_regions

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "saved_models/README.md"])
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The changelog names what is no longer there."""
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))
MAX_COLUMNS = 100


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_lines_have_at_most_100_columns_outside_tables_which_cannot_be_broken() -> None:
    long = [
        f"{name_of(page)}:{number}: {len(line)}"
        for page in [*PAGES, *CONFIGS]
        for number, line in enumerate(lines_of(page), start=1)
        if len(line) > MAX_COLUMNS and not line.startswith("|")
    ]
    assert long == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    folders = ("mmgkeras", "cli", "benchmarks", "tests")
    modules = [f"/{name_of(path)}" for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8")))
    assert [name for name in named if not any(module.endswith(f"/{name}") for module in modules)] == []


@pytest.mark.parametrize("page", [*CURRENT, *CONFIGS], ids=name_of)
def test_keys_that_a_page_names_exist(page: Path) -> None:
    sections = {name: field.annotation.model_fields for name, field in Config.model_fields.items()}
    keys = re.findall(rf"[`=](?:--set )?({'|'.join(sections)})\.([a-z]\w*)", page.read_text(encoding="utf-8"))
    files = ("csv", "json", "py")
    assert [f"{section}.{key}" for section, key in keys if key not in (*sections[section], *files)] == []


@pytest.mark.parametrize("page", [*CURRENT, *CONFIGS], ids=name_of)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", "").replace("\n#  ", "\n")
    unknown = []
    for name, options in re.findall(r"(?:`|^#? {3,})mmgkeras ([a-z][a-z-]*)\b([^`\n]*)", text, flags=re.MULTILINE):
        command = main.commands.get(name)
        commands = [command, *getattr(command, "commands", {}).values()]
        known = {option for one in commands if one is not None for parameter in one.params for option in parameter.opts}
        unknown += (
            [name] * (name != "threshold")
            if command is None
            else sorted(set(re.findall(r"(?<!\S)--[a-z0-9-]+", options)) - known)
        )
    assert unknown == []


def test_every_key_of_a_models_metadata_is_explained() -> None:
    page = (REPOSITORY / "saved_models/README.md").read_text(encoding="utf-8")
    assert [key for key in ModelMetadata.model_fields if not re.search(rf"^\|[^|]*`{key}`", page, re.MULTILINE)] == []


def test_the_citation_names_this_version() -> None:
    assert f"version: {mmgkeras.__version__}" in lines_of(REPOSITORY / "CITATION.cff")


@pytest.fixture
def example_folder(tmp_path: Path) -> Path:
    """What the README's example needs: mydata of noise with a mark in each of four images, and my.toml."""
    data = tmp_path / "mydata"
    data.mkdir()
    generator = np.random.default_rng(0)
    records, regions = [], []
    for number in range(1, 5):
        image_id = f"p{number}_l_cc"
        pixels = generator.integers(0, 200, (64, 64), np.uint8)
        pixels[10:16, 10:16] = 255
        Image.fromarray(pixels).save(data / f"{image_id}.png")
        records.append(ImageRecord(image_id, f"{image_id}.png", f"p{number}", "L", "CC", "complete"))
        regions.append(Region(image_id, "1", "calcification", "box", ((10, 10), (15, 15))))
    write_images(data / "images.csv", records)
    write_regions(data / "regions.csv", regions)
    (tmp_path / "my.toml").write_text(
        "[patches]\npatch_px = 32\n[split]\nnum_subsets = 2\n[augmentation]\nintensities = [1.0]\n"
        '[model]\nweights = "none"\n[train]\nepochs = 1\nbatch_size = 16\n'
    )
    return tmp_path


def test_the_python_example_of_the_readme_runs_as_it_stands(example_folder: Path) -> None:
    lines = lines_of(REPOSITORY / "README.md")
    start = lines.index("    import mmgkeras as mg")
    example = "\n".join(line.strip() for line in lines[start : lines.index(next(filter(is_prose, lines[start:])))])
    example += "\nassert score_map.probabilities.shape == (2, 2)\nassert metrics.tissue is not None\n"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=example_folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    with Image.open(example_folder / "marked.png") as picture:
        assert picture.width == 64
    assert (example_folder / "results/predictions.csv").is_file()


def is_prose(line: str) -> bool:
    return bool(line) and not line.startswith("    ")
