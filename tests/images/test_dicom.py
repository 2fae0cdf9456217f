import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import uid

from benchmarks.campaign.dicom_damage import dicom_files
from mmgkeras.errors import InputError
from mmgkeras.images.dicom import decode_dicom
from mmgkeras.images.reader import read, read_with_header
from mmgkeras.schema import ImageRecord

from .damage import damaged_copies
from .dicom_files import RAMP, code, decoded, file_of, full, mammogram, ramp


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
