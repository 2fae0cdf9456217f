"""CLAIM, TRIPOD+AI and STARD-AI as tables: what the report answers, and blanks for what only the group knows.

Owns how they are shown. The items are `claim`'s, `tripod_ai`'s and `stard_ai`'s, the answers `checklist_facts`'.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape, unescape
from typing import Final

from mmgkeras.report.checklist_facts import Fact, study_facts
from mmgkeras.report.checklist_item import Checklist, Item
from mmgkeras.report.claim import CLAIM
from mmgkeras.report.page import blank, paragraph
from mmgkeras.report.stard_ai import STARD_AI
from mmgkeras.report.table import Section, Table
from mmgkeras.report.tripod_ai import TRIPOD_AI
from mmgkeras.study.read import Study

CHECKLISTS: Final = (CLAIM, TRIPOD_AI, STARD_AI)
_INTRO: Final = (
    "Items are paraphrased. What the study says is filled in, with a link to where this page shows it; what only the "
    "group knows is left blank. For a submission the official checklists must be used, with page and line of the "
    "manuscript."
)
_HEADING: Final = re.compile(r'<h3 id="([^"]+)">([^<]*)</h3>')


def checklists_section(study: Study, *, sections: Sequence[Section]) -> Section:
    """The three checklists.

    Args:
        study: that they are filled from.
        sections: the others of the page, so that links lead somewhere.
    """
    titles = _titles(sections)
    facts = study_facts(study, places=titles)
    body = [paragraph(_INTRO)]
    for checklist in CHECKLISTS:
        body.append(_checklist(checklist, facts, titles=titles))
    return Section(anchor="checklists", title="Reporting checklists", body=tuple(body))


def _titles(sections: Sequence[Section]) -> dict[str, str]:
    """The title of each place in the page that can be linked to, by its id."""
    titles: dict[str, str] = {}
    for section in sections:
        titles[section.anchor] = section.title
        for part in section.body:
            if isinstance(part, Table):
                titles.setdefault(part.name, part.title)
            else:
                for found, heading in _HEADING.findall(part):
                    titles.setdefault(found, unescape(heading))
    return titles


def _checklist(checklist: Checklist, facts: Mapping[str, Fact], *, titles: Mapping[str, str]) -> str:
    rows = []
    for heading, items in checklist.parts:
        rows.append(f'<tr><th colspan="3" scope="rowgroup" style="font-weight:600">{escape(heading)}</th></tr>')
        rows.extend(_row(item, facts, titles=titles) for item in items)
    num_filled = sum(not item.wanted for item in checklist.items)
    count = f"{num_filled} of {len(checklist.items)} items and parts are answered here; the others need the group."
    return (
        f'<h3 id="{escape(checklist.anchor)}">{escape(checklist.name)}</h3>'
        f"{paragraph(f'{checklist.source} {count}', kind='note')}"
        '<div class="table long"><table><thead><tr><th scope="col">Item</th><th scope="col">Asks for</th>'
        f'<th scope="col">Answer</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _row(item: Item, facts: Mapping[str, Fact], *, titles: Mapping[str, str]) -> str:
    answers = [_answer(facts[name], titles=titles) for name in item.facts]
    if item.wanted:
        answers.append(blank(item.wanted))
    return (
        f'<tr><th scope="row">{escape(item.number)}</th><td style="max-width:30ch">{escape(item.asks)}</td>'
        f"<td>{'<br>'.join(answers)}</td></tr>"
    )


def _answer(fact: Fact, *, titles: Mapping[str, str]) -> str:
    links = ", ".join(
        f'<a href="#{escape(anchor)}">{escape(titles[anchor])}</a>' for anchor in fact.anchors if anchor in titles
    )
    return f"{escape(fact.text)} {links}" if links else escape(fact.text)
