"""The reference standard of a study: its regions, the marks in each patch, the targets to be found.

Owns the reading of regions.csv in the data folder of a study. What follows from the regions is `evaluation`'s.
"""

from typing import Final

import pandas as pd

from mmgkeras.errors import InputError
from mmgkeras.evaluation.froc import reach_of
from mmgkeras.evaluation.subgroup_metrics import patch_marks
from mmgkeras.evaluation.targets import Targets, targets_from_labels, targets_from_regions
from mmgkeras.schema import Region
from mmgkeras.study.read import Study
from mmgkeras.tables import read_regions

REGIONS_CSV: Final = "regions.csv"


def study_regions(study: Study) -> list[Region] | None:
    """The regions of the data folder; None where it or its regions.csv is not there.

    Raises:
        InputError: if regions.csv cannot be read.
        InputFaultsError: every fault in it.
    """
    if study.data_path is None or not (study.data_path / REGIONS_CSV).is_file():
        return None
    return read_regions(study.data_path / REGIONS_CSV)


def study_marks(study: Study) -> pd.DataFrame | None:
    """`patch_marks` of a study's store; None where the store, the data folder or its regions.csv is not there.

    Raises:
        InputError: if regions.csv cannot be read or a region cannot be drawn on its image.
        InputFaultsError: every fault in it.
    """
    regions = study_regions(study)
    if study.store is None or study.data_path is None or regions is None:
        return None
    try:
        return patch_marks(study.store, regions)
    except InputError as error:
        raise InputError(f"{study.data_path / REGIONS_CSV}: {error}") from error


def study_targets(study: Study, predictions: pd.DataFrame) -> Targets:
    """Targets from regions where the store's labels came from them and the data folder is there, else from labels.

    Raises:
        InputError: if regions.csv cannot be read or a region cannot be drawn on its image.
        InputFaultsError: every fault in it.
    """
    store = study.store
    if store is None or study.data_path is None or store.manifest.labels.read_from != REGIONS_CSV:
        return targets_from_labels(predictions)
    grids = {str(image_id): store.grid(str(image_id)) for image_id in predictions["image_id"].unique()}
    return targets_from_regions(
        predictions,
        read_regions(study.data_path / REGIONS_CSV),
        grids,
        cluster_fraction=store.manifest.labels.cluster_fraction,
    )


def study_reach(study: Study) -> int:
    """How far apart on the grid patches of one mark may lie, see `evaluation.froc.reach_of`; 1 without the store."""
    if study.store is None:
        return 1
    return reach_of(patch_px=study.store.patch_px, stride_px=study.store.stride_px)
