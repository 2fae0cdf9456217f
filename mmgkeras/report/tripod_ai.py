"""TRIPOD+AI (Collins et al., BMJ 2024): its 27 items in 52 parts and what answers them."""

from typing import Final

from mmgkeras.report.checklist_item import Checklist, Item

TRIPOD_AI: Final = Checklist(
    anchor="tripod-ai",
    name="TRIPOD+AI",
    source="Collins et al., BMJ 2024;385:e078378, 27 items, 52 with their parts. Numbers follow a reproduction of the "
    "statement's table. TRIPOD+AI speaks of participants and predictors: here these are patients and the pixels of a "
    "patch, the outcome is calcification in the patch.",
    parts=(
        (
            "Title and abstract",
            (
                Item("1", "Title: development or evaluation, population, outcome", wanted="the title"),
                Item("2", "Abstract, by TRIPOD+AI for Abstracts", wanted="the abstract"),
            ),
        ),
        (
            "Introduction",
            (
                Item("3a", "Context and reason for the model, earlier models", wanted="context and earlier models"),
                Item("3b", "Population, purpose in care, users", wanted="population, purpose, users"),
                Item("3c", "Known inequalities between groups", wanted="inequalities known in this population"),
                Item("4", "Aims; development, validation or both", ("goal",), "aims"),
            ),
        ),
        (
            "Methods",
            (
                Item(
                    "5a",
                    "Sources of data for development and evaluation",
                    ("partition",),
                    "source, reason, representativeness",
                ),
                Item("5b", "Dates of the data", wanted="start and end of recruitment"),
                Item("6a", "Setting and centres", wanted="setting, number and place of centres"),
                Item("6b", "Who was eligible", ("left_out",), "criteria"),
                Item("6c", "Treatments", wanted="treatments before imaging, if any"),
                Item("7", "Preparation and quality checks of the data", ("preprocessing", "left_out"), "steps before"),
                Item("8a", "The outcome, and how and when it was assessed", ("reference",), "when it was assessed"),
                Item("8b", "Who assessed the outcome", wanted="qualification and demographics of readers"),
                Item("8c", "Blinding of outcome assessment", wanted="what readers knew"),
                Item("9a", "Choice of predictors", ("input",)),
                Item(
                    "9b", "Definition and measurement of predictors", ("input", "acquisition"), "acquisition protocol"
                ),
                Item("9c", "Who assessed predictors", ("input",)),
                Item("10", "Size of the study", ("size",), "how the size came about, and whether it suffices"),
                Item("11", "Missing data", ("missing",), "what is missing in the source"),
                Item("12a", "Use of the data for development and evaluation", ("partition", "disjoint")),
                Item("12b", "Handling of predictors", ("preprocessing",)),
                Item(
                    "12c", "Model, building steps, internal validation", ("model", "training", "selection", "internal")
                ),
                Item("12d", "Heterogeneity between clusters", ("spread", "subgroups"), "centres, if several"),
                Item("12e", "Measures and plots of performance", ("metrics", "uncertainty", "differences")),
                Item("12f", "Updating of the model", ("calibration",)),
                Item("12g", "How predictions were calculated", ("output",)),
                Item("13", "Class imbalance and recalibration", ("imbalance", "calibration")),
                Item("14", "Fairness", ("subgroups",), "what else was done for fairness, and why"),
                Item("15", "Output and thresholds", ("output", "threshold")),
                Item("16", "Differences between development and evaluation data", ("internal",)),
                Item("17", "Ethical approval and consent", wanted="committee, number, consent or waiver"),
            ),
        ),
        (
            "Open science",
            (
                Item("18a", "Funding", wanted="funding and the funders' role"),
                Item("18b", "Conflicts of interest", wanted="conflicts of interest"),
                Item("18c", "Protocol", ("protocol",), "where the study's protocol is, or that there is none"),
                Item("18d", "Registration", wanted="register and number, or that it was not registered"),
                Item("18e", "Sharing of data", wanted="where the data can be had"),
                Item("18f", "Sharing of code", ("availability",)),
            ),
        ),
        (
            "Patient and public involvement",
            (Item("19", "Involvement of patients and public", wanted="how, or that there was none"),),
        ),
        (
            "Results",
            (
                Item("20a", "Flow of participants", ("flow",)),
                Item("20b", "Characteristics of participants", ("demographics",), "dates, clinical characteristics"),
                Item("20c", "Comparison of evaluation with development data", ("demographics", "external")),
                Item("21", "Participants and outcomes in each analysis", ("patches", "subsets")),
                Item("22", "The model, so that others can use it", ("availability", "model"), "where it can be had"),
                Item(
                    "23a", "Performance with intervals, in subgroups too", ("performance", "calibration", "subgroups")
                ),
                Item("23b", "Heterogeneity of performance between clusters", ("spread",)),
                Item("24", "Results of updating", ("calibration",)),
            ),
        ),
        (
            "Discussion",
            (
                Item("25", "Interpretation, fairness included", wanted="interpretation"),
                Item("26", "Limitations", wanted="limitations"),
                Item("27a", "Poor or missing input in use", ("robustness",), "what users should do then"),
                Item("27b", "What users must do and know", wanted="interaction and expertise needed"),
                Item("27c", "Next steps", wanted="next steps"),
            ),
        ),
    ),
)
