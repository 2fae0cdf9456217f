"""Configuration: defaults of the paper, overrides, and what is said of a mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mmgkeras.config import Config, PatchesConfig, read_config, write_config
from mmgkeras.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


class TestDefaults:
    @pytest.mark.parametrize("other", ["model.network=resnet50", "model.weights=imagenet"])
    def test_only_resnet18_from_random_or_own_weights_is_narrow(self, other: str) -> None:
        narrow = ["model.weights=none", "model.width=0.5"]
        assert read_config(overrides=narrow).model.width == 0.5
        with pytest.raises(ConfigError, match=r"width other than 1 needs network resnet18 .* Received: 0\.5 with "):
            read_config(overrides=[*narrow, other])

    def test_averages_over_the_steps_need_recalibrated_statistics(self) -> None:
        with pytest.raises(ConfigError, match=r"train: .*ema_momentum needs batch_norm_recalibration"):
            read_config(overrides=["train.ema_momentum=0.9", "train.batch_norm_recalibration=false"])

    def test_no_file_gives_the_papers_values(self) -> None:
        config = read_config()
        assert config == Config()
        assert (config.patches.patch_px, config.patches.stride_px) == (224, None)
        assert config.split.num_subsets == 5
        assert config.augmentation.intensities == (1.0, 0.5, 0.75)
        train = config.train
        assert (train.epochs, train.batch_size, train.learning_rate) == (10, 128, 0.001)
        assert (train.learning_rate_drop_factor, train.learning_rate_drop_period) == (0.3, 1)
        assert (train.momentum, train.l2) == (0.9, 0.005)

    def test_no_file_gives_the_papers_scheme_and_a_new_order_each_epoch(self) -> None:
        assert (read_config().augmentation.scheme, read_config().train.shuffle) == ("paper", "every_epoch")

    def test_configuration_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Config().train.epochs = 3  # type: ignore[misc]


class TestPresets:
    @pytest.mark.parametrize("network", ["resnet18", "resnet50", "resnet101"])
    def test_the_papers_presets_normalise_by_the_training_patches_in_full_float32(self, network: str) -> None:
        config = read_config(Path(__file__).parents[1] / "configs" / f"sakaida2023-{network}.toml")
        assert (config.model.network, config.model.normalisation) == (network, "training")
        assert (config.train.precision, config.train.tf32, config.train.batch_norm_recalibration) == (
            "float32",
            False,
            True,
        )
        assert config.train.checkpoint_steps is None

    def test_the_earlier_key_of_checkpoints_is_read(self) -> None:
        assert read_config(overrides=["train.checkpoint_steps=100"]).train.checkpoint_steps == 100


class TestReading:
    def test_file_holds_only_what_differs(self, tmp_path: Path) -> None:
        config = read_config(written(tmp_path, "[train]\nepochs = 3\n"))
        assert config.train.epochs == 3
        assert config.train.batch_size == 128

    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path) -> None:
        path = written(tmp_path, "\ufeff[train]\nepochs = 3\n")
        assert read_config(path).train.epochs == 3

    def test_override_wins_over_the_file(self, tmp_path: Path) -> None:
        path = written(tmp_path, "[train]\nepochs = 3\nseed = 4\n")
        config = read_config(path, overrides=["train.epochs=5", "augmentation.intensities=[1.0, 0.8]"])
        assert (config.train.epochs, config.train.seed) == (5, 4)
        assert config.augmentation.intensities == (1.0, 0.8)

    @pytest.mark.parametrize("text", ["none", '"none"', " none "])
    def test_override_that_is_not_toml_is_text(self, text: str) -> None:
        assert read_config(overrides=[f"model.weights={text}"]).model.weights == "none"

    def test_override_may_hold_an_equals_sign(self) -> None:
        assert read_config(overrides=["model.weights=a=b.h5"]).model.weights == "a=b.h5"

    def test_round_trip(self, tmp_path: Path) -> None:
        config = read_config(
            overrides=[
                "patches.stride_px=32",
                'model.weights="C:\\\\a \\"b\\".h5"',
                "train.l2=1e-7",
                "train.momentum=0",
            ]
        )
        path = tmp_path / "config.toml"
        write_config(config, path)
        assert read_config(path) == config
        write_config(Config(), path)
        assert read_config(path) == Config()


class TestRefused:
    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
            read_config(tmp_path / "none.toml")

    @pytest.mark.parametrize("content", [b"[train\n", b"\xff\xfe"])
    def test_file_that_is_not_toml(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "c.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"c\.toml: is not TOML: "):
            read_config(path)

    def test_misspelt_key_names_its_nearest_neighbour(self, tmp_path: Path) -> None:
        path = written(tmp_path, "[train]\nepoch = 3\n")
        with pytest.raises(ConfigError, match=r"c\.toml: train\.epoch: no such key; did you mean epochs\?$"):
            read_config(path)

    def test_misspelt_section_names_its_nearest_neighbour(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"c\.toml: patch: no such key; did you mean patches\?$"):
            read_config(written(tmp_path, "[patch]\npatch_px = 3\n"))

    def test_key_like_no_other_lists_what_is_allowed(self) -> None:
        with pytest.raises(ConfigError, match=r"configuration: split\.zzz: no such key; allowed: num_subsets, seed$"):
            read_config(overrides=["split.zzz=1"])

    @pytest.mark.parametrize(
        ("override", "rule"),
        [
            ("train.epochs=0", "train.epochs: Input should be greater than or equal to 1. Received: 0"),
            ('train.epochs="3"', "train.epochs: Input should be a valid integer. Received: '3'"),
            ("train.epochs=2.5", "train.epochs: Input should be a valid integer"),
            (
                "train.precision=float16",
                "train.precision: Input should be 'float32' or 'bfloat16'. Received: 'float16'",
            ),
            ("patches.patch_px=4", "patches.patch_px: Input should be greater than or equal to 8. Received: 4"),
            ("patches.cluster_fraction=0.0", "patches.cluster_fraction: Input should be greater than 0"),
            ("patches.stride_px=500", r"patches: stride_px must not exceed patch_px \(224\). Received: 500"),
            ("augmentation.intensities=[0.5]", r"augmentation: intensities must begin with 1.0 .* Received: \(0.5,\)"),
            ("augmentation.intensities=[1.0, 1.5]", "augmentation: intensities must begin with 1.0"),
            (
                "augmentation.scheme=fair",
                "augmentation.scheme: Input should be 'paper' or 'symmetric'. Received: 'fair'",
            ),
            ("train.shuffle=never", "train.shuffle: Input should be 'every_epoch' or 'once'. Received: 'never'"),
            ("augmentation.intensities=[]", "augmentation.intensities: .* at least 1 item"),
            ("train=3", "--set takes section.key=value, such as train.epochs=3. Received: 'train=3'"),
            ("train.epochs", "--set takes section.key=value"),
        ],
    )
    def test_value_out_of_range_is_one_line(self, override: str, rule: str) -> None:
        with pytest.raises(ConfigError, match=rule) as caught:
            read_config(overrides=[override])
        assert "\n" not in str(caught.value)

    def test_override_of_a_key_where_the_file_has_a_value_for_the_table(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"train: must be a table of keys\. Received: 3"):
            read_config(written(tmp_path, "train = 3\n"), overrides=["train.epochs=1"])

    def test_every_fault_has_its_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            read_config(written(tmp_path, "[train]\nepochs = 0\nmomentum = 1\n"))
        assert len(str(caught.value).splitlines()) == 2


def test_stride_defaults_to_the_patch() -> None:
    assert PatchesConfig().stride_px is None


@pytest.mark.parametrize("text", ['"1_0"', '"\uff11"', '"1"', "true", "nan"])
def test_a_number_is_never_text(text: str) -> None:
    for key in ("train.checkpoint_minutes", "model.pooling_sharpness", "augmentation.negatives_per_positive"):
        with pytest.raises(ConfigError, match=rf"{key}: Input should be a (valid|finite) number"):
            read_config(overrides=[f"{key}={text}"])
        read_config(overrides=[f"{key}=1"])


def test_a_file_of_thousands_of_unknown_keys_is_told_in_a_hundred_lines(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text("".join(f"a{number} = 1\n" for number in range(300)))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    lines = str(caught.value).split("\n")
    assert len(lines) == 101
    assert lines[-1] == f"{path}: and 200 more faults"
