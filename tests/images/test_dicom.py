import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, uid
from scipy.special import expit

from benchmarks.campaign.dicom_damage import dicom_files
from mmgkeras.errors import InputError
from mmgkeras.images.dicom import decode_dicom
from mmgkeras.images.reader import read, read_with_header
from mmgkeras.schema import ImageRecord

from .damage import damaged_copies
from .dicom_files import code, file_of, lut, mammogram, ramp

RAMP = ramp()


def full(gray: np.ndarray) -> np.ndarray:
    """Values 0 to 1 as full-range uint16."""
    return np.rint(gray * 65535).astype(np.uint16)


def decoded(stored: np.ndarray = RAMP, *, voi: int = 1, bits: int = 12, is_signed: bool = False, **attributes: object):
    return decode_dicom(file_of(mammogram(stored, bits=bits, is_signed=is_signed, **attributes)), voi=voi)[0]


def jpeg(stored: np.ndarray, bits: int, **options: object) -> bytes:
    return imagecodecs.jpeg8_encode(stored.astype(np.uint8 if bits == 8 else np.uint16), bitspersample=bits, **options)


class TestTransferSyntaxes:
    @pytest.mark.parametrize(
        "syntax",
        [
            uid.ImplicitVRLittleEndian,
            uid.ExplicitVRLittleEndian,
            uid.ExplicitVRBigEndian,
            uid.DeflatedExplicitVRLittleEndian,
            uid.RLELossless,
        ],
        ids=lambda syntax: syntax.keyword,
    )
    @pytest.mark.parametrize(("bits", "is_signed"), [(8, False), (12, False), (16, False), (12, True), (16, True)])
    def test_uncompressed_and_rle_are_exact(self, syntax: uid.UID, bits: int, is_signed: bool) -> None:
        stored = ramp(bits)
        lowest = 2 ** (bits - 1) if is_signed else 0
        pixels, _ = decode_dicom(file_of(mammogram(stored - lowest, bits=bits, is_signed=is_signed), syntax))
        expected = stored.astype(np.uint8) if bits == 8 else full(stored / (2**bits - 1))
        assert pixels.dtype == expected.dtype
        np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize(
        ("syntax", "frame"),
        [
            (uid.JPEGLosslessSV1, jpeg(RAMP, 12, lossless=True, predictor=1)),
            (uid.JPEGLossless, jpeg(RAMP, 12, lossless=True, predictor=4)),
            (uid.JPEGLSLossless, imagecodecs.jpegls_encode(RAMP.astype(np.uint16))),
            (uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(RAMP.astype("u2"), level=0, codecformat="j2k")),
            (uid.JPEG2000, imagecodecs.jpeg2k_encode(RAMP.astype("u2"), level=0, codecformat="jp2")),
        ],
        ids=["SV1", "process 14", "JPEG-LS", "JPEG 2000 lossless", "JPEG 2000"],
    )
    def test_lossless_compression_is_exact(self, syntax: uid.UID, frame: bytes) -> None:
        pixels, _ = decode_dicom(file_of(mammogram(RAMP), syntax, frame=frame))
        np.testing.assert_array_equal(pixels, full(RAMP / 4095))

    @pytest.mark.parametrize(
        ("syntax", "bits", "frame", "most"),
        [
            (uid.JPEGBaseline8Bit, 8, jpeg(ramp(8), 8, level=100), 3),
            (uid.JPEGExtended12Bit, 8, jpeg(ramp(8), 8, level=100), 3),
            (uid.JPEGExtended12Bit, 12, jpeg(RAMP, 12, level=100), 3),
            (uid.JPEGLSNearLossless, 12, imagecodecs.jpegls_encode(RAMP.astype(np.uint16), level=2), 2),
        ],
    )
    def test_lossy_compression_is_close(self, syntax: uid.UID, bits: int, frame: bytes, most: int) -> None:
        stored = ramp(bits)
        pixels, _ = decode_dicom(file_of(mammogram(stored, bits=bits), syntax, frame=frame))
        levels = pixels * ((2**bits - 1) / np.iinfo(pixels.dtype).max)
        assert np.abs(levels - stored).max() <= most + 0.5

    def test_another_syntax_is_named_and_the_tool_that_converts_it(self, refused: Callable[[bytes, str], str]) -> None:
        data = file_of(mammogram(RAMP), uid.MPEG2MPML, frame=b"\0\0")
        message = refused(data, r"not supported: MPEG2 Main Profile.*dcmdjpeg or gdcmconv may convert it")
        assert "damaged" not in message

    def test_bits_above_those_stored_may_hold_anything(self) -> None:
        stored = RAMP + 4096 * (np.arange(30) % 16)
        np.testing.assert_array_equal(decoded(stored), full(RAMP / 4095))


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


class TestWhatIsNoMammogram:
    @pytest.mark.parametrize(
        ("attributes", "rule"),
        [
            ({"PresentationIntentType": "FOR PROCESSING"}, r"FOR PRESENTATION\. Received: FOR PROCESSING"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2.1"}, "Received: FOR PROCESSING"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"}, "synthesised 2D image. Received: tomosynthesis"),
            ({"ImageType": ["DERIVED", "PRIMARY", "TOMO_PROJ"]}, "Received: tomosynthesis"),
            ({"NumberOfFrames": 45}, "synthesised 2D image. Received: 45 frames"),
            ({"Modality": "US", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "Ultrasound Image Storage, modality US"),
            (
                {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
                r"modality MG\)\. Received: Secondary Capture Image Storage, modality OT",
            ),
            ({"ViewCodeSequence": [code("R-10242", "R-102D6")]}, "Received: a magnification view"),
            ({"ViewCodeSequence": [code("399162004", "399163009")]}, "Received: a magnification view"),
            ({"ViewCodeSequence": [code("399162004", "399055006")]}, "Received: a spot compression view"),
            ({"ViewCodeSequence": [code("399162004", "399209000")]}, "Received: an implant-displaced view"),
            ({"ViewCodeSequence": [code("127457009")]}, "Received: a specimen"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]}, "Received: a stereotactic view"),
        ],
    )
    def test_is_refused_with_the_reason(
        self, refused: Callable[[bytes, str], str], attributes: dict[str, object], rule: str
    ) -> None:
        assert "damaged" not in refused(file_of(mammogram(RAMP, **attributes)), rule)

    @pytest.mark.parametrize("name", ["GENERATED_2D", "TOMO_2D"])
    def test_synthesised_2d_is_taken(self, name: str) -> None:
        assert decoded(ImageType=["DERIVED", "PRIMARY", "TOMO", name]).shape == RAMP.shape

    def test_a_secondary_capture_is_taken_where_it_was_asked_for_or_named(
        self, refused: Callable[[bytes, str], str]
    ) -> None:
        data = file_of(mammogram(RAMP, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"))
        assert decode_dicom(data)[0].shape == decode_dicom(data, take=["secondary-capture"])[0].shape == RAMP.shape
        with pytest.raises(InputError, match=r"unless asked for\. Received: Secondary Capture Image Storage"):
            decode_dicom(data, take=[])

    @pytest.mark.parametrize(
        ("sop_class", "modality", "name"),
        [
            ("1.2.840.10008.5.1.4.1.1.88.33", "SR", "Comprehensive SR Storage"),
            ("1.2.840.10008.5.1.4.1.1.88.59", "KO", "Key Object Selection Document Storage"),
            ("1.2.840.10008.5.1.4.1.1.11.1", "PR", "Grayscale Softcopy Presentation State Storage"),
        ],
    )
    def test_objects_without_an_image_are_named(
        self, refused: Callable[[bytes, str], str], sop_class: str, modality: str, name: str
    ) -> None:
        dataset = mammogram(RAMP, SOPClassUID=sop_class, Modality=modality)
        del dataset.PixelData
        refused(file_of(dataset), f"holds no image, but {name}")


class TestDamage:
    @pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless])
    def test_a_file_cut_anywhere_is_one_line(self, refused: Callable[[bytes, str], str], syntax: uid.UID) -> None:
        frame = imagecodecs.jpegls_encode(RAMP.astype(np.uint16)) if syntax == uid.JPEGLSLossless else None
        data = file_of(mammogram(RAMP), syntax, frame=frame)
        for length in range(140, len(data) - 20, max(1, len(data) // 25)):
            refused(data[:length], "is damaged or cut short")

    def test_a_stream_without_its_end_or_of_another_size(self, refused: Callable[[bytes, str], str]) -> None:
        frame = jpeg(RAMP, 12, lossless=True)
        refused(file_of(mammogram(RAMP), uid.JPEGLossless, frame=frame[:-40]), "no end marker")
        refused(file_of(mammogram(RAMP.T), uid.JPEGLossless, frame=frame), "30 x 40 pixels expected")
        frame = imagecodecs.jpeg2k_encode(RAMP.astype("u2"), level=0, codecformat="j2k")
        refused(file_of(mammogram(RAMP.T), uid.JPEG2000, frame=frame), "30 x 40 pixels expected")

    def test_a_value_of_a_length_that_its_kind_cannot_have(self, refused: Callable[[bytes, str], str]) -> None:
        data = file_of(mammogram(RAMP))
        refused(data.replace(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00UL"), "is damaged or cut short: it breaks")

    def test_changed_bytes_give_a_line_or_an_image(self) -> None:
        data = file_of(mammogram(RAMP), uid.RLELossless)
        for seed in range(150):
            changed = bytearray(data)
            random = np.random.default_rng(seed)
            for _ in range(3):
                changed[random.integers(132, len(data))] = random.integers(256)
            with suppress(InputError):
                assert decode_dicom(bytes(changed))[0].ndim == 2

    @pytest.mark.parametrize("name", dicom_files())
    def test_what_is_read_of_damaged_copies_is_what_a_second_decoder_reads(
        self, pixels_of: Callable[[bytes], np.ndarray], name: str
    ) -> None:
        data, second = dicom_files()[name]
        np.testing.assert_array_equal(pixels_of(data), second(data))
        num_refused = 0
        for copy in damaged_copies(data, number=100, seed=3):
            try:
                pixels = pixels_of(copy)
            except InputError:
                num_refused += 1
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's, of what it reads all the same
                np.testing.assert_array_equal(pixels, second(copy))
        assert num_refused > 40

    def test_what_inflates_beyond_the_limit_is_not_inflated(
        self, refused: Callable[[bytes, str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = file_of(mammogram(RAMP), uid.DeflatedExplicitVRLittleEndian)
        start = 144 + struct.unpack_from("<I", data, 140)[0]
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        bomb = data[:start] + packer.compress(bytes(2_000_000)) + packer.flush()
        monkeypatch.setattr("mmgkeras.images.dicom_bytes._MAX_BYTES", 1_000_000)
        refused(bomb, "does not end, or within 1,000,000 bytes")


def test_images_csv_may_name_a_dicom_file(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(file_of(mammogram(RAMP)))
    record = ImageRecord("a", "a.dcm", "p", "L", "CC", "none")
    np.testing.assert_array_equal(read(record, tmp_path).pixels, full(RAMP / 4095))


@pytest.fixture
def real_files(shared_data: Path) -> Path:
    return shared_data / "dicom"


class TestRealFiles:
    def test_three_luts_and_three_sigmoid_windows(self, real_files: Path) -> None:
        path = real_files / "GH133_ge_mg_jpll_3voilut.dcm"
        pixels, header = read_with_header(path)
        assert header is not None
        assert (pixels.shape, pixels.dtype, header.laterality, header.view) == ((3062, 2394), np.uint16, "R", "MLO")
        assert header.spacing_mm == pytest.approx(0.09409, abs=1e-5)
        assert (int(pixels.max()), header.voi, header.notes) == (63855, "VOI LUT 1 of 3", ())

    def test_two_spacings_that_disagree(self, real_files: Path) -> None:
        pixels, header = read_with_header(real_files / "MG_Explicit_Little_8bit_pixelspacing.dcm")
        assert header is not None
        assert (pixels.dtype, header.laterality, header.view, header.spacing_mm) == (np.uint8, "R", "CC", 0.25)
        assert "0.3333 mm: the first is taken, for it was measured" in header.notes[0]

    def test_a_film_of_cbis_has_its_view_in_patient_orientation(self, real_files: Path) -> None:
        pixels, header = read_with_header(real_files / "cbis_Mass-Test_P_00173_LEFT_CC_rle.dcm")
        assert header is not None
        assert (int(pixels.max()), header.laterality, header.view, header.spacing_mm) == (55879, "L", "CC", None)

    def test_tomosynthesis_is_refused(self, real_files: Path) -> None:
        with pytest.raises(InputError, match="give the synthesised 2D image"):
            read_with_header(real_files / "jpeg2k_3d_dbt_4f.dcm")
