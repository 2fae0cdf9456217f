"""CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 2024): its 44 items and what answers them."""

from typing import Final

from mmgkeras.report.checklist_item import Checklist, Item

CLAIM: Final = Checklist(
    anchor="claim",
    name="CLAIM 2024",
    source="Checklist for Artificial Intelligence in Medical Imaging, 2024 update: Tejani et al., Radiol Artif Intell "
    "2024;6(4):e240300, 44 items. Numbers and topics follow a summary of the update by others and were not held "
    "against the journal's own table.",
    parts=(
        (
            "Title and abstract",
            (
                Item("1", "Title names AI and its kind", ("technology",), "the title"),
                Item("2", "Structured abstract", wanted="the abstract"),
            ),
        ),
        (
            "Introduction",
            (
                Item("3", "Background, intended use, clinical role", wanted="the introduction"),
                Item("4", "Aims and hypotheses", wanted="aims and hypotheses"),
            ),
        ),
        (
            "Methods: design",
            (
                Item("5", "Prospective or retrospective", wanted="which of the two"),
                Item("6", "Goal of the study", ("goal",), "the goal in clinical terms"),
            ),
        ),
        (
            "Methods: data",
            (
                Item("7", "Sources of the data", wanted="source, licence, link if public"),
                Item(
                    "8",
                    "Who and what was included and excluded",
                    ("left_out",),
                    "criteria before the images were listed",
                ),
                Item("9", "Preprocessing", ("preprocessing",), "conversion before the images were listed"),
                Item(
                    "10",
                    "Choice of subsets of the data",
                    ("patches",),
                    "whether images or patients were chosen, by whom",
                ),
                Item("11", "De-identification", wanted="method and rules followed"),
                Item("12", "Missing data", ("missing",), "what is missing in the source, and why"),
                Item("13", "Image acquisition", ("acquisition",), "devices, exposure, compression, protocol"),
            ),
        ),
        (
            "Methods: reference standard",
            (
                Item("14", "How the reference standard was obtained", ("reference",), "the readers' instructions"),
                Item("15", "Why this reference standard", wanted="reason, and what else there is"),
                Item("16", "Who annotated", wanted="number, qualification, training"),
                Item("17", "Annotation of the test data, tools used", ("reference",), "software and its version"),
                Item(
                    "18", "Variability between and within readers", wanted="agreement, and how differences were settled"
                ),
            ),
        ),
        (
            "Methods: partitions and size",
            (
                Item("19", "How data were assigned to partitions", ("partition", "imbalance")),
                Item("20", "At which level partitions are disjoint", ("disjoint",)),
                Item("21", "Size of the test set and its justification", ("size",), "the calculation behind it"),
            ),
        ),
        (
            "Methods: model",
            (
                Item("22", "The model in full", ("model",)),
                Item("23", "Software and versions", ("software",)),
                Item("24", "Initial parameters", ("initial",)),
            ),
        ),
        (
            "Methods: training",
            (
                Item("25", "Training, augmentation, hyperparameters", ("training", "augmentation")),
                Item("26", "How the final model was chosen", ("selection",)),
                Item("27", "Ensembles", ("ensemble",)),
            ),
        ),
        (
            "Methods: evaluation",
            (
                Item("28", "Metrics", ("metrics", "paper")),
                Item("29", "Uncertainty and significance", ("uncertainty", "differences")),
                Item("30", "Robustness", ("robustness",)),
                Item("31", "Explanation of decisions", ("explanation",)),
                Item("32", "Testing on internal data", ("internal",)),
                Item("33", "Testing on external data", ("external",), "external results, or why there are none"),
                Item("34", "Trial registration", wanted="registry and number, or that it does not apply"),
            ),
        ),
        (
            "Results",
            (
                Item("35", "Numbers included and excluded, with a flow chart", ("flow",)),
                Item(
                    "36",
                    "Demographics of each partition",
                    ("demographics",),
                    "clinical characteristics not in the data",
                ),
                Item("37", "Performance in partitions and subgroups", ("performance", "subgroups")),
                Item("38", "Accuracy with intervals, ROC", ("performance", "roc", "calibration")),
                Item("39", "Failures", ("failures",), "what they mean clinically"),
            ),
        ),
        (
            "Discussion",
            (
                Item("40", "Limitations", wanted="limitations"),
                Item("41", "Implications for practice", wanted="implications"),
            ),
        ),
        (
            "Other information",
            (
                Item("42", "Full protocol", ("protocol",), "where the study's protocol is"),
                Item(
                    "43", "Availability of software, model, data", ("availability",), "where model and data can be had"
                ),
                Item("44", "Funding and the funders' role", wanted="funding"),
            ),
        ),
    ),
)
