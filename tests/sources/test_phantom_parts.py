import dataclasses

import numpy as np
import pytest

from mmgkeras.sources.phantom.calcifications import _chord_mm
from mmgkeras.sources.phantom.cases import SIZE_RANGE_MM, Mark, draw_findings, plan_exposures
from mmgkeras.sources.phantom.distractors import laid
from mmgkeras.sources.phantom.physics import beam_at, detector_blur, noise_level, unit_noise
from mmgkeras.sources.phantom.texture import Raster, power_law_field

from .spectrum import spectrum_slope

SPHERE = Mark(
    offset_mm=(0.0, 0.0, 0.0),
    form="round",
    length_mm=0.6,
    width_mm=0.6,
    chord_mm=0.6,
    angle=0.3,
    density_factor=0.5,
    is_oxalate=False,
    outline=np.zeros((4, 2)),
)


def test_first_patients_do_not_depend_on_how_many_follow():
    few, many = plan_exposures(num_patients=3, seed=5), plan_exposures(num_patients=9, seed=5)
    assert many[: len(few)] == few


def test_patients_have_two_point_six_images_on_average():
    exposures = plan_exposures(num_patients=1500, seed=0)
    assert len(exposures) / 1500 == pytest.approx(2.6, abs=0.1)
    assert {exposure.view for exposure in exposures} == {"CC", "MLO"}
    assert {exposure.laterality for exposure in exposures} == {"L", "R"}
    assert len({exposure.image_id for exposure in exposures}) == len(exposures)


def test_both_views_share_the_breasts_findings_and_nothing_else():
    first = next(exposure for exposure in plan_exposures(num_patients=9, seed=0) if exposure.view == "CC")
    cc, mlo = first, dataclasses.replace(first, view="MLO")
    assert cc.breast_rng().random() == mlo.breast_rng().random()
    assert cc.image_rng("noise").random() != mlo.image_rng("noise").random()
    assert cc.image_rng("noise").random() != cc.image_rng("texture").random()


@pytest.mark.parametrize("beta", [2.5, 3.1])
def test_texture_has_the_slope_it_was_asked_for(beta):
    rng = np.random.default_rng(0)
    fields = [power_law_field(Raster((512, 512), 0.2), rng, beta=beta) for _ in range(4)]
    slopes = [spectrum_slope(field, spacing_mm=0.2) for field in fields]
    assert np.mean(slopes) == pytest.approx(beta, abs=0.15)
    assert np.mean([field.var() for field in fields]) == pytest.approx(1.0, abs=0.35)


def test_stretched_texture_varies_less_along_its_direction():
    field = power_law_field(Raster((400, 400), 0.2), np.random.default_rng(0), beta=3, angle=0.0, stretch=3.0)
    assert np.diff(field, axis=1).std() < 0.6 * np.diff(field, axis=0).std()


def test_sphere_has_the_chord_and_the_volume_of_a_sphere():
    chord = _chord_mm(SPHERE, size=17, centre=(8.2, 7.9), spacing_mm=0.1)
    assert chord.max() == pytest.approx(0.6, abs=0.02)
    assert chord.sum() * 0.1**2 == pytest.approx(np.pi / 6 * 0.6**3, rel=0.02)


def test_rim_is_darker_in_the_middle():
    chord = _chord_mm(dataclasses.replace(SPHERE, form="rim"), size=17, centre=(8.0, 8.0), spacing_mm=0.05)
    assert chord[8, 8] == pytest.approx(0.12, abs=0.01)
    assert chord.max() > 2 * chord[8, 8]


def test_coefficients_are_the_tables_and_fall_with_energy():
    assert beam_at(20.0).apatite_minus_gland == pytest.approx(2.0)
    assert beam_at(17.0).gland_minus_fat == pytest.approx(0.044)
    assert beam_at(18.0).fat > beam_at(22.0).fat


def test_noise_falls_with_the_pixel_and_grows_with_the_root_of_attenuation():
    image = np.array([[1.0, 1.0 + np.log(4)]], dtype=np.float32)
    level = noise_level(image, reference=1.0, noise_fraction=0.03, spacing_mm=0.2)
    np.testing.assert_allclose(level, [[0.015, 0.03]], rtol=1e-5)


def test_noise_has_unit_variance_and_little_correlation():
    noise = unit_noise((300, 300), np.random.default_rng(0))
    assert noise.std() == pytest.approx(1.0, abs=1e-3)
    assert 0.0 < (noise[:, 1:] * noise[:, :-1]).mean() < 0.3


def test_blur_adds_up():
    first, second = np.random.default_rng(0).random((2, 20, 20), dtype=np.float32)
    both = detector_blur(first + second, spacing_mm=0.1)
    apart = detector_blur(first, spacing_mm=0.1) + detector_blur(second, spacing_mm=0.1)
    np.testing.assert_allclose(both, apart, atol=1e-6)


@pytest.mark.parametrize("spacing_mm", [0.1, 0.2])
def test_laid_curve_has_the_asked_height_where_it_is_alone_and_twice_that_where_two_cross(spacing_mm):
    along = np.arange(0.0, 40.0, 0.1)
    across = np.full_like(along, 20.05)
    courses = [np.stack([along, across], axis=-1), np.stack([across, along], axis=-1)]
    raster = Raster((round(40 / spacing_mm),) * 2, spacing_mm)
    drawn = laid(courses, [np.full(400, 3.0)] * 2, raster, sigma_mm=0.4)
    assert drawn[round(10 / spacing_mm)].max() == pytest.approx(3.0, rel=0.05)
    assert drawn.max() == pytest.approx(6.0, rel=0.05)


def test_curve_beside_the_image_leaves_it_empty():
    course = np.stack([np.arange(50.0, 60.0, 0.1), np.full(100, -30.0)], axis=-1)
    assert not laid([course], [np.ones(100)], Raster((40, 40), 0.2), sigma_mm=0.2).any()


def test_small_calcifications_keep_their_range_of_sizes():
    marks = [
        mark
        for seed in range(60)
        for finding in draw_findings(np.random.default_rng(seed), mean=2.8)
        for mark in finding.marks
        if finding.pattern in ("clustered", "segmental")
    ]
    sizes = np.array([np.sqrt(mark.length_mm * mark.width_mm) for mark in marks])
    assert SIZE_RANGE_MM[0] <= sizes.min()
    assert sizes.max() <= SIZE_RANGE_MM[1]
    assert np.median(sizes) == pytest.approx(0.28, abs=0.03)
