import hashlib
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main
from PIL import Image

from mmgkeras.config import PhantomConfig, read_config
from mmgkeras.errors import ConfigError
from mmgkeras.sources.phantom import GENERATOR_VERSION, PROVENANCE, write_phantom
from mmgkeras.sources.phantom.calcifications import Calcification
from mmgkeras.sources.phantom.cases import draw_findings, plan_exposures
from mmgkeras.sources.phantom.display import PLAIN, Display, Look, compressed, draw_lettering, draw_look, processed
from mmgkeras.sources.phantom.exposure import make_image

RANDOMISED = PhantomConfig(looks="randomised")
SPACING_MM = 0.4
EXPOSURES = plan_exposures(num_patients=40, seed=3)
RAMP = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)


def fixed(**ranges):
    """Randomised looks whose ranges are each a single number, harmless where not given."""
    harmless = {
        "noise": 1.0,
        "noise_trend": 1.0,
        "noise_sigma_px": 0.35,
        "blur_mm": 0.0,
        "curve": 0.0,
        "gamma": 1.0,
        "sharpening": 0.0,
        "fog": 0.0,
        "lettering": 0.0,
        "levels": 256.0,
        "jpeg_quality": 98.0,
        "line_gray": 0.0,
        "dust_per_cm2": 0.0,
    }
    chosen = {**harmless, **ranges}
    return PhantomConfig(looks="randomised", **{name: (value, value) for name, value in chosen.items()})


class TestLooks:
    def test_plain_is_one_for_all(self):
        assert {id(draw_look(exposure, PhantomConfig())) for exposure in EXPOSURES} == {id(PLAIN)}

    def test_randomised_differ_and_stay_in_their_ranges(self):
        looks = [draw_look(exposure, RANDOMISED) for exposure in EXPOSURES]
        for name in ("noise", "noise_trend", "blur_mm", "skin", "muscle", "gamma", "curve", "fog", "evenness"):
            low, high = getattr(RANDOMISED, name)
            values = np.array([getattr(look, name) for look in looks])
            assert low <= values.min() < values.max() <= high
            assert np.ptp(values) > 0.5 * (high - low)
        assert all(look.fat_gray < look.dense_gray <= 0.97 for look in looks)
        for part, values in {
            1 / 2: [look.sharpening > 0 for look in looks],
            1 / 3: [look.jpeg_quality is not None for look in looks],
            1 / 5: [look.line_gray > 0 for look in looks],
        }.items():
            assert np.mean(values) == pytest.approx(part, abs=0.15)

    def test_a_range_that_goes_down_is_refused(self):
        with pytest.raises(
            ConfigError, match=r"phantom: fog must be a range from 0 at least to 1000 at most. Received: \(0.5"
        ):
            read_config(overrides=["phantom.fog=[0.5, 0.1]"])
        assert read_config(overrides=["phantom.curve=[-0.5, 0.1]"]).phantom.curve == (-0.5, 0.1)


class TestImages:
    def test_image_without_noise_is_the_twin_plus_every_calcification(self):
        image = make_image(EXPOSURES[0], spacing_mm=SPACING_MM, config=RANDOMISED)
        added = np.zeros(image.pixels.shape, np.float32)
        for mark in image.marks:
            added[mark.place] += mark.signal
        assert len(image.marks) > 0
        np.testing.assert_allclose(image.noise_free - image.twin_noise_free, added, atol=2e-5)

    def test_same_seed_gives_the_same_image_and_plain_looks_another(self):
        make = partial(make_image, EXPOSURES[1], spacing_mm=SPACING_MM)
        first = make(config=RANDOMISED)
        np.testing.assert_array_equal(make(config=RANDOMISED).pixels, first.pixels)
        assert not np.array_equal(make().pixels, first.pixels)
        assert first.pixels.min() >= 0
        assert first.pixels.max() <= 1

    def test_noise_falls_with_brightness_where_the_trend_is_a_films(self):
        for trend, sign in ((1.0, 1), (-1.0, -1)):
            image = make_image(EXPOSURES[0], spacing_mm=SPACING_MM, config=fixed(noise_trend=trend))
            assert sign * np.corrcoef(image.twin_noise_free.ravel(), np.log(image.noise).ravel())[0, 1] > 0.9

    def test_a_mark_below_one_gray_level_is_left_out(self):
        # A third of the images is cut to levels.
        exposures = [each for each in EXPOSURES if draw_look(each, fixed(levels=50.0)).levels == 50][:3]
        counts = [
            len(make_image(each, spacing_mm=SPACING_MM, config=fixed(noise=0.01, levels=levels)).marks)
            for levels in (50.0, 256.0)
            for each in exposures
        ]
        assert 0 < sum(counts[:3]) < sum(counts[3:])

    def test_skin_findings_are_small_rings(self):
        without = draw_findings(np.random.default_rng(4), mean=3.0)
        with_skin = draw_findings(np.random.default_rng(4), mean=3.0, skin_mean=4.0)
        rings = with_skin[len(without) :]
        assert [len(finding.marks) for finding in with_skin[: len(without)]] == [len(f.marks) for f in without]
        assert len(rings) > 0
        assert {mark.form for finding in rings for mark in finding.marks} == {"rim"}


# Means of the quarters of the first three images at 1 mm, in gray levels of 255: another version gives others.
FINGERPRINTS = {
    "plain": [
        [83.024, 27.766, 63.246, 21.809],
        [105.882, 12.162, 89.653, 16.802],
        [90.648, 26.938, 70.345, 21.264],
    ],
    "randomised": [
        [76.588, 24.285, 53.544, 19.959],
        [108.31, 11.444, 83.191, 20.371],
        [108.911, 31.84, 85.106, 26.032],
    ],
}


@pytest.mark.parametrize("looks", ["plain", "randomised"])
def test_the_generators_version_goes_up_when_it_gives_other_images(looks):
    assert GENERATOR_VERSION == 2
    found = []
    for exposure in EXPOSURES[:3]:
        pixels = make_image(exposure, spacing_mm=1.0, config=PhantomConfig(looks=looks)).pixels
        height, width = (length // 2 for length in pixels.shape)
        quarters = [pixels[top : top + height, left : left + width] for top in (0, height) for left in (0, width)]
        found.append([255 * float(quarter.mean()) for quarter in quarters])
    np.testing.assert_allclose(found, FINGERPRINTS[looks], atol=0.02)


class TestDisplay:
    def display(self, **curve):
        return Display(black=0.0, white=1.0, fat=0.0, evened=0.0, full_mm=1.0, look=Look(**curve))

    def test_curve_is_an_s_that_keeps_the_ends_and_the_middle(self):
        gray = self.display(curve=0.6).gray(np.array([[0.0, 0.25, 0.5, 0.75]], np.float32), np.ones((1, 4), np.float32))
        bend = 0.6 / (2 * np.pi)
        np.testing.assert_allclose(gray, [[0.0, 0.25 - bend, 0.5, 0.75 + bend]], atol=1e-6)

    def test_gamma_is_an_exponent(self):
        gray = self.display(gamma=2.0).gray(np.array([[0.0, 0.5]], np.float32), np.ones((1, 2), np.float32))
        np.testing.assert_allclose(gray, [[0.0, 0.25]], atol=1e-6)


class TestProcessing:
    def make(self, **look):
        return processed(RAMP, Look(**look), np.random.default_rng(1), spacing_mm=0.2)

    def test_nothing_is_changed_by_the_plain_look(self):
        np.testing.assert_array_equal(self.make(), RAMP)

    def test_levels_are_counted(self):
        assert len(np.unique(self.make(levels=16))) == 16

    def test_fog_lifts_black_and_keeps_white(self):
        fogged = self.make(fog=0.1)
        assert fogged.min() == pytest.approx(0.1)
        assert fogged.max() == pytest.approx(1.0)

    def test_sharpening_steepens_an_edge(self):
        edge = np.repeat(np.float32([0.4, 0.6]), 20)[None].repeat(20, axis=0)
        sharp = processed(edge, Look(sharpening=1.0, sharpening_mm=0.5), np.random.default_rng(1), spacing_mm=0.2)
        assert sharp[10, 19] < 0.38
        assert sharp[10, 20] > 0.62
        assert sharp[10, 2] == pytest.approx(0.4, abs=1e-3)

    def test_lines_run_along_rows_or_columns(self):
        difference = self.make(line_gray=0.01) - RAMP
        inside = difference[2:-2, 2:-2]
        assert np.abs(inside).max() > 0.001
        assert min(np.abs(np.diff(inside, axis=axis)).max() for axis in (0, 1)) < 1e-5

    def test_jpeg_changes_little(self):
        again = compressed(RAMP, 50)
        assert 0 < np.abs(again - RAMP).max() < 0.1


class TestLettering:
    def lettered(self, *, is_on_breast, marks=()):
        depth = np.full((200, 200), -5.0, np.float32)
        depth[:, :100] = 5.0
        images = np.zeros((200, 200), np.float32), np.full((200, 200), 0.1, np.float32)
        look = Look(lettering=40, is_lettered_on_breast=is_on_breast)
        draw_lettering(images, EXPOSURES[0], [mark.place for mark in marks], depth_mm=depth, look=look, spacing_mm=0.5)
        return images

    def test_stays_beside_the_breast_where_it_must(self):
        beside, _ = self.lettered(is_on_breast=False)
        assert beside[:, :100].max() == 0
        assert beside[:, 100:].max() > 0.3
        anywhere, _ = self.lettered(is_on_breast=True)
        assert anywhere[:, :100].max() > 0.3

    def test_covers_no_calcification_and_both_images_alike(self):
        signal = np.ones((30, 30), np.float32)
        mark = Calcification(1, None, (100.0, 150.0), 85, 135, signal)
        image, twin = self.lettered(is_on_breast=True, marks=[mark])
        assert image[mark.place].max() == 0
        np.testing.assert_array_equal(np.maximum(image, 0.1) != 0.1, twin > 0.1 + 1e-7)


class TestFolder:
    def test_provenance_tells_version_seed_and_looks_and_proves_the_pixels(self, tmp_path):
        folder = tmp_path / "data"
        config = fixed()
        write_phantom(folder, num_patients=1, seed=3, spacing_mm=1.0, config=config)
        said = json.loads((folder / PROVENANCE).read_text())
        assert {name: said[name] for name in ("generator_version", "seed", "patients", "spacing_mm", "bits")} == {
            "generator_version": GENERATOR_VERSION,
            "seed": 3,
            "patients": 1,
            "spacing_mm": 1.0,
            "bits": 8,
        }
        assert PhantomConfig(**said["phantom"]) == config
        digests = []
        for exposure in plan_exposures(num_patients=1, seed=3):
            with Image.open(folder / "images" / f"{exposure.image_id}.png") as image:
                digests.append(hashlib.sha256(np.asarray(image).tobytes()).hexdigest())
        assert said["first_image_sha256"] == digests[0]
        assert said["pixels_sha256"] == hashlib.sha256("".join(digests).encode()).hexdigest()
        assert said["regions_sha256"] == hashlib.sha256((folder / "regions.csv").read_bytes()).hexdigest()

    def test_command_takes_looks_and_a_configuration(self, tmp_path):
        config = tmp_path / "c.toml"
        config.write_text("[phantom]\nfog = [0.08, 0.08]\n")
        out = tmp_path / "data"
        result = CliRunner().invoke(
            main,
            [
                *("phantom", "--out", str(out), "--patients", "1", "--spacing-mm", "1.0"),
                *("--looks", "randomised", "--config", str(config)),
            ],
        )
        assert result.exit_code == 0, result.output
        said = json.loads((out / PROVENANCE).read_text())["phantom"]
        assert (said["looks"], said["fog"]) == ("randomised", [0.08, 0.08])

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
    def test_workers_end_when_the_command_is_killed(self, tmp_path):
        arguments = ["phantom", "--out", str(tmp_path / "data"), "--patients", "500", "--spacing-mm", "1.0"]
        program = f"import os; os.cpu_count = lambda: 2; from mmgkeras.cli import main; main({arguments})"
        command = tmp_path / "command.py"
        command.write_text(f"if __name__ == '__main__':\n    {program}\n")
        with subprocess.Popen([sys.executable, str(command)], stderr=subprocess.DEVNULL) as process:
            try:
                workers = wait_for(lambda: workers_of(process.pid))
            finally:
                process.kill()
        wait_for(lambda: not any(Path(f"/proc/{worker}").is_dir() for worker in workers))


def workers_of(pid):
    """The process ids of both workers of a command, or nothing as long as they are not at work."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = {
        child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children if Path(f"/proc/{child}").is_dir()
    }
    workers = [child for child, line in lines.items() if b"spawn_main" in line]
    return workers if len(workers) == 2 else []


def wait_for(condition):
    """What a condition gives once it is true; a machine may be slow, so it is asked for minutes."""
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")
