"""What gray values become: rescale, modality and VOI LUTs, windows, padding, and raw images."""

from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset, uid
from scipy.special import expit

from mmgkeras.errors import InputError
from mmgkeras.images.dicom import decode_dicom

from .dicom_files import RAMP, decoded, file_of, full, lut, mammogram, ramp


class TestGrayValues:
    def test_an_images_own_extremes_do_not_count(self) -> None:
        assert decoded(np.array([[100, 200], [300, 400]])).tolist() == [[1600, 3201], [4801, 6401]]

    def test_white_is_zero_is_turned(self) -> None:
        pixels = decoded(PhotometricInterpretation="MONOCHROME1")
        np.testing.assert_array_equal(pixels, full(1 - RAMP / 4095))

    @pytest.mark.parametrize("slope", [2.0, 0.5, -1.0])
    def test_rescale_sets_the_range_that_is_left_without_a_window(self, slope: float) -> None:
        values = RAMP * slope + 7
        expected = full((values - min(7, 4095 * slope + 7)) / abs(4095 * slope))
        np.testing.assert_array_equal(decoded(RescaleSlope=slope, RescaleIntercept=7), expected)

    def test_the_modality_lut_comes_before_the_window(self) -> None:
        table = [min(2 * value, 65535) for value in range(4096)]
        pixels = decoded(ModalityLUTSequence=[lut(table, first=0, bits=16)], WindowCenter=4000, WindowWidth=1000)
        expected = np.clip((2.0 * RAMP - 3999.5) / 999 + 0.5, 0, 1)
        np.testing.assert_array_equal(pixels, full(expected))

    @pytest.mark.parametrize(
        ("function", "gray"),
        [
            (None, np.clip((RAMP - 1999.5) / 999 + 0.5, 0, 1)),
            ("LINEAR", np.clip((RAMP - 1999.5) / 999 + 0.5, 0, 1)),
            ("LINEAR_EXACT", np.clip((RAMP - 2000.0) / 1000 + 0.5, 0, 1)),
            ("SIGMOID", expit(4 * (RAMP - 2000.0) / 1000)),
        ],
    )
    def test_window_functions(self, function: str | None, gray: np.ndarray) -> None:
        pixels = decoded(WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)
        np.testing.assert_array_equal(pixels, full(gray))

    def test_a_window_of_signed_values_with_a_slope(self) -> None:
        pixels = decoded(
            RAMP - 2048, is_signed=True, RescaleSlope=-2, RescaleIntercept=10, WindowCenter=0, WindowWidth=2001
        )
        values = (RAMP - 2048) * -2.0 + 10
        np.testing.assert_array_equal(pixels, full(np.clip((values + 0.5) / 2000 + 0.5, 0, 1)))

    def test_the_narrowest_window_is_a_threshold(self) -> None:
        assert decoded(np.array([[99, 100]]), WindowCenter=100, WindowWidth=1).tolist() == [[0, 65535]]

    @pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
    @pytest.mark.parametrize("first", [1000, -5])
    def test_a_voi_lut_holds_its_ends_beyond_them(self, syntax: uid.UID, first: int) -> None:
        entries = [3 * number for number in range(1000)]
        is_signed = first < 0
        stored = RAMP - 2048 if is_signed else RAMP
        dataset = mammogram(stored, is_signed=is_signed, VOILUTSequence=[lut(entries, first=first, bits=12)])
        expected = 3 * np.clip(stored - first, 0, 999)
        np.testing.assert_array_equal(decode_dicom(file_of(dataset, syntax))[0], full(expected / 4095))

    @pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
    @pytest.mark.parametrize("is_signed", [True, False])
    def test_first_value_of_a_lut_is_negative_where_values_are_whatever_its_vr(
        self, syntax: uid.UID, is_signed: bool
    ) -> None:
        made = Dataset()
        made.add_new("LUTDescriptor", "US", [4096, 0x10000 - 2048, 12])
        made.add_new("LUTData", "US", list(range(4096)))
        if is_signed:
            dataset = mammogram(RAMP - 2048, is_signed=True, VOILUTSequence=[made])
        else:
            dataset = mammogram(RAMP, RescaleIntercept=-2048, RescaleSlope=1, VOILUTSequence=[made])
        np.testing.assert_array_equal(decode_dicom(file_of(dataset, syntax))[0], full(RAMP / 4095))

    def test_a_voi_lut_of_8_bits_gives_uint8(self) -> None:
        entries = [number // 16 for number in range(4096)]
        pixels = decoded(VOILUTSequence=[lut(entries, first=0, bits=8)])
        np.testing.assert_array_equal(pixels, (RAMP // 16).astype(np.uint8))
        assert pixels.dtype == np.uint8

    def test_luts_and_then_windows_are_counted_and_the_first_is_the_default(self) -> None:
        attributes = {
            "VOILUTSequence": [lut(list(range(4096)), first=0, bits=12), lut([0] * 2, first=0, bits=12)],
            "WindowCenter": [1000, 2000],
            "WindowWidth": [101, 201],
        }
        np.testing.assert_array_equal(decoded(**attributes), full(RAMP / 4095))
        assert not decoded(voi=2, **attributes).any()
        for voi, center, width in ((3, 999.5, 100), (4, 1999.5, 200)):
            expected = full(np.clip((RAMP - center) / width + 0.5, 0, 1))
            np.testing.assert_array_equal(decoded(voi=voi, **attributes), expected)
        with pytest.raises(InputError, match=r"as many VOI LUTs and windows as the one asked for, 5\. Received: 4"):
            decoded(voi=5, **attributes)

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize(("limit", "padded"), [(None, [40]), (42, [40, 41, 42]), (38, [38, 39, 40])])
    def test_padding_becomes_background(self, photometric: str, limit: int | None, padded: list[int]) -> None:
        stored = np.arange(36, 45)[None]
        pixels = decoded(
            stored, PixelPaddingValue=40, PixelPaddingRangeLimit=limit, PhotometricInterpretation=photometric
        )
        expected = full(1 - stored / 4095 if photometric == "MONOCHROME1" else stored / 4095)
        expected[np.isin(stored, padded)] = 0
        np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize(("is_signed", "vr", "value"), [(True, "US", 0x10000 - 2048), (False, "SS", -1)])
    def test_padding_is_found_whatever_its_vr(self, is_signed: bool, vr: str, value: int) -> None:
        bits = 12 if is_signed else 16
        stored = ramp(bits) - 2048 if is_signed else ramp(bits)
        dataset = mammogram(stored, bits=bits, is_signed=is_signed)
        dataset.PhotometricInterpretation = "MONOCHROME1" if is_signed else "MONOCHROME2"
        dataset.add_new("PixelPaddingValue", vr, value)
        pixels, _ = decode_dicom(file_of(dataset))
        is_padding = stored == (-2048 if is_signed else 65535)
        assert is_padding.any()
        assert not pixels[is_padding].any()

    @pytest.mark.parametrize(
        ("attributes", "rule"),
        [
            ({"WindowCenter": [1, 2], "WindowWidth": 5}, "2 window centers and 1 widths"),
            ({"WindowCenter": 1, "WindowWidth": 0}, "impossible center or width for LINEAR"),
            ({"WindowCenter": 1, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "VOI LUT Function is unknown: CUBIC"),
            ({"RescaleSlope": 0, "RescaleIntercept": 0}, "Rescale Slope is 0"),
            ({"VOILUTSequence": [lut([0, 4096], first=0, bits=12)]}, "a LUT of 2 values of 12 bits is not"),
            ({"PhotometricInterpretation": "RGB"}, r"must be MONOCHROME1 or MONOCHROME2\. Received: RGB"),
            ({"HighBit": 15}, "Received: 16, 12 and 15 as the highest"),
            ({"Rows": 50_000, "Columns": 50_000}, "at most 100,000,000 pixels"),
            ({"Rows": 41}, "is damaged or cut short"),
        ],
    )
    def test_headers_that_cannot_be_are_refused(
        self, refused: Callable[[bytes, str], str], attributes: dict[str, object], rule: str
    ) -> None:
        refused(file_of(mammogram(RAMP, **attributes)), rule)


class TestForProcessing:
    """Dense is dark in what is raw: x of 4095 becomes 1 - ln(1 + x) / ln(4096)."""

    LOGARITHM = 1 - np.log1p(RAMP) / np.log(4096)

    @pytest.mark.parametrize(
        ("attributes", "gray"),
        [
            ({"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1}, LOGARITHM),
            ({"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": -1}, LOGARITHM[::-1, ::-1]),
            ({"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": 1}, 1 - RAMP / 4095),
            ({"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1}, RAMP / 4095),
            ({"PhotometricInterpretation": "MONOCHROME1"}, LOGARITHM),
            ({"PhotometricInterpretation": "MONOCHROME2"}, LOGARITHM[::-1, ::-1]),
            ({"PixelIntensityRelationshipSign": 1, "WindowCenter": 9, "WindowWidth": 9}, LOGARITHM),
        ],
    )
    def test_is_the_logarithm_of_the_exposure_in_display_polarity(
        self, attributes: dict[str, object], gray: np.ndarray
    ) -> None:
        data = file_of(mammogram(RAMP, PresentationIntentType="FOR PROCESSING", **attributes))
        pixels, header = decode_dicom(data, take=["for-processing"])
        np.testing.assert_allclose(pixels.astype(int), full(gray).astype(int), atol=1)
        assert header.voi == "log transform"

    def test_an_images_own_extremes_do_not_count(self) -> None:
        attributes = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationshipSign": 1}
        pixels, _ = decode_dicom(file_of(mammogram(np.array([[63, 255]]), **attributes)), take=["for-processing"])
        assert pixels.tolist() == [[32768, 21845]]

    @pytest.mark.parametrize(
        ("voi", "relation", "rule"),
        [
            (2, "LIN", r"as the one asked for, 2\. Received: FOR PROCESSING"),
            (1, "DISP", r"a Pixel Intensity Relationship of LIN or LOG\. Received: DISP"),
        ],
    )
    def test_what_it_cannot_be_asked_for(self, voi: int, relation: str, rule: str) -> None:
        attributes = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": relation}
        with pytest.raises(InputError, match=rule):
            decode_dicom(file_of(mammogram(RAMP, **attributes)), voi=voi, take=["for-processing"])
