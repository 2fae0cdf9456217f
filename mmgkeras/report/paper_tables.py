"""The numbers of Sakaida et al. 2023, Algorithms 16, 483, doi 10.3390/a16100483, table by table.

Owns what the paper states, percentages as fractions of 1. Computes nothing.
"""

from typing import Final

NETWORKS: Final = {"resnet18": "ResNet18", "resnet50": "ResNet50", "resnet101": "ResNet101"}
"""The paper's name of each network, by `model.network` of the configuration."""

IMAGES: Final = {("R", "CC"): 53, ("R", "MLO"): 51, ("L", "CC"): 52, ("L", "MLO"): 56}
"""Table 1: mammograms by breast and view."""

CALCIFICATION: Final = {"yes": 1029, "no": 14020}
"""Table 3: patches by presence of calcification."""

SUBSETS: Final = {
    "A": (16, 43, 194, 3352),
    "B": (16, 42, 131, 3001),
    "C": (17, 41, 238, 2329),
    "D": (15, 43, 196, 2989),
    "E": (17, 43, 270, 2349),
}
"""Table 4: patients, mammograms, patches with and without calcification."""

FOLDS: Final = {
    1: (10668, 835, 3352, 194),
    2: (11019, 898, 3001, 131),
    3: (11691, 791, 2329, 238),
    4: (11031, 833, 2989, 196),
    5: (11671, 759, 2349, 270),
}
"""Table 5: patches for training without and with calcification, for testing without and with."""

AUGMENTED: Final = {1: (21336, 20040), 2: (22038, 21552), 3: (23382, 18984), 4: (22062, 19992), 5: (23342, 18216)}
"""Table 6: augmented patches for training without and with calcification."""

METRICS: Final = {
    "resnet18": {
        "sensitivity": 0.734,
        "specificity": 0.978,
        "f1": 0.714,
        "ppv": 0.705,
        "npv": 0.978,
        "accuracy": 0.960,
    },
    "resnet50": {
        "sensitivity": 0.762,
        "specificity": 0.981,
        "f1": 0.747,
        "ppv": 0.744,
        "npv": 0.981,
        "accuracy": 0.964,
    },
    "resnet101": {
        "sensitivity": 0.756,
        "specificity": 0.980,
        "f1": 0.738,
        "ppv": 0.729,
        "npv": 0.980,
        "accuracy": 0.963,
    },
}
"""Table 7: means of five folds."""

AUC: Final = {"resnet18": 0.956, "resnet50": 0.963, "resnet101": 0.961}
"""Table 8: means of five folds."""

SECONDS: Final = {"resnet18": 0.072, "resnet50": 0.136, "resnet101": 0.203}
"""Table 9: to classify the patches of one mammogram, on an NVIDIA RTX A6000 (Table 2)."""

MAMMOGRAM_ACCURACY: Final = {"resnet18": 0.958, "resnet50": 0.963, "resnet101": 0.961}
"""Table 10: mean of the accuracy of each mammogram."""
