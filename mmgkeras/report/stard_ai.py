"""STARD-AI (Sounderajah et al., Nature Medicine 2025): its 40 items in 48 parts and what answers them."""

from typing import Final

from mmgkeras.report.checklist_item import Checklist, Item

STARD_AI: Final = Checklist(
    anchor="stard-ai",
    name="STARD-AI",
    source="Sounderajah et al., Nat Med 2025;31:3283-3289, 40 items, 48 with their parts: STARD 2015 with 14 new and 4 "
    "changed parts. Numbers follow a reproduction of its Table 2, not the journal's own page. The index test is the "
    "network's decision on a patch.",
    parts=(
        (
            "Title, abstract, introduction",
            (
                Item("1", "Title or abstract: accuracy of AI, with a measure", ("performance",), "title and abstract"),
                Item("2", "Structured abstract", wanted="the abstract"),
                Item("3", "Background, intended use, place in the workflow", wanted="the introduction"),
                Item("4", "Aims and hypotheses", wanted="aims and hypotheses"),
            ),
        ),
        (
            "Methods: design and participants",
            (
                Item("5", "Data planned before or after the tests", wanted="prospective or retrospective"),
                Item("6", "Ethical approval", wanted="committee and number, or why none was needed"),
                Item("7", "Eligibility of participants and of data", ("left_out",), "criteria in the order applied"),
                Item("8", "How participants were found", wanted="symptoms, screening, registry"),
                Item("9", "Where and when", wanted="setting, place, dates"),
                Item("10", "Consecutive, random or convenience series", wanted="which"),
            ),
        ),
        (
            "Methods: dataset",
            (
                Item("11", "Source of the data and why they were collected", wanted="source; routine, study or public"),
                Item("12", "Who annotated, and how", ("reference",), "readers, experience, circumstances"),
                Item("13", "Devices and software", ("acquisition", "software"), "makers and models of devices"),
                Item("14", "Acquisition and preprocessing", ("preprocessing", "acquisition"), "acquisition protocol"),
            ),
        ),
        (
            "Methods: tests",
            (
                Item("15a", "Index test, so that it can be repeated", ("model", "output")),
                Item("15b", "Its development: training, validation, testing, sizes", ("training", "partition", "size")),
                Item(
                    "15c", "Its thresholds, set before or after", ("threshold",), "which thresholds were set beforehand"
                ),
                Item("15d", "Who uses it and what they must know", wanted="users and expertise"),
                Item("16a", "Reference standard", ("reference",), "the readers' instructions"),
                Item("16b", "Why this reference standard", wanted="reason"),
                Item("16c", "Its categories, set before or after", ("reference",), "when they were set"),
                Item("17a", "What was known to the index test", ("input",)),
                Item("17b", "What was known to the readers", wanted="what readers saw besides the image"),
            ),
        ),
        (
            "Methods: analysis",
            (
                Item("18", "Estimating and comparing accuracy", ("metrics", "uncertainty", "differences")),
                Item("19", "Indeterminate results", ("indeterminate",)),
                Item("20", "Missing data", ("missing",), "what is missing in the source"),
                Item("21", "Variability of accuracy", ("subgroups", "spread"), "which analyses were planned"),
                Item("22", "Intended sample size", ("size",), "how it was determined"),
                Item("23", "Analysis of errors, bias and fairness", ("failures", "subgroups", "robustness")),
            ),
        ),
        (
            "Results: participants and dataset",
            (
                Item("24", "Flow of participants, as a diagram", ("flow",)),
                Item("25", "Characteristics of training and test sets", ("demographics", "subsets"), "clinical ones"),
                Item("26a", "Severity in those with the condition", ("severity",), "histology, types of calcification"),
                Item("26b", "Other findings in those without", ("severity",), "other findings"),
                Item("27", "Time between the tests", wanted="time between image and reference standard"),
                Item("28", "Does the set resemble the intended population", ("prevalence",), "prevalence in practice"),
                Item("29", "How an external set differs", ("external",), "differences, or that there is none"),
            ),
        ),
        (
            "Results: tests",
            (
                Item("30", "Cross tabulation of test and reference", ("confusion",)),
                Item("31", "Accuracy with intervals", ("performance",)),
                Item("32", "Adverse events", wanted="adverse events, or none"),
            ),
        ),
        (
            "Discussion",
            (
                Item("33", "Limitations, bias, generalisability", wanted="limitations"),
                Item("34", "Implications for practice", wanted="implications"),
                Item("35", "Ethics and fairness of its use", ("subgroups",), "ethics and fairness"),
            ),
        ),
        (
            "Other information",
            (
                Item("36", "Registration", wanted="registry and number"),
                Item("37", "Protocol", ("protocol",), "where the study's protocol is"),
                Item("38", "Funding", wanted="funding and the funders' role"),
                Item("39", "Commercial interests", wanted="commercial interests"),
                Item("40a", "Availability of data and code", ("availability",), "where the data can be had"),
                Item("40b", "Outputs stored and open to audit", ("audit",)),
            ),
        ),
    ),
)
