"""What a site knows of an archive's films and their headers leave out: it fills gaps, never against a header."""

import re
from dataclasses import dataclass

from pipeline.images import wording
from pipeline.images.headers import Elements, items, text
from pipeline.study import Remark

DIGITISED = ("DF", "DI")
"""Conversion Type (0008,0064): a digitised film, a digital interface (PS3.3 C.8.6.1)."""
_SAYS_NOTHING = re.compile(
    r"\W*|unknown|undefined|unspecified|none|null|nil|n ?/? ?a|default|anonymi[sz]ed|anonymous|removed"
)


@dataclass(frozen=True, slots=True)
class SiteTrust:
    """``conversion_types`` of secondary captures that are films beside those of the standard; ``missing_body_part``
    and ``missing_view`` stand where no field of a header names any. All empty: the headers alone decide.
    """

    conversion_types: frozenset[str] = frozenset()
    missing_body_part: str = ""
    missing_view: str = ""

    def takes_as_film(self, conversion_type: str) -> bool:
        """Whether a secondary capture with this Conversion Type is one only because the site says so."""
        return conversion_type not in DIGITISED and conversion_type in self.conversion_types

    def fills_body_part(self, dataset: Elements, described: tuple[str, ...]) -> bool:
        """Whether the site's body part stands; ``described`` are the texts that may name one."""
        coded = [
            text(item, "CodeValue") or text(item, "CodeMeaning")
            for item in items(dataset, "AnatomicRegionSequence")
        ]
        return (
            bool(self.missing_body_part)
            and says_nothing(text(dataset, "BodyPartExamined"))
            and not any(coded)
            and not any(map(wording.names_region, described))
        )

    def fills_view(self, dataset: Elements, described: tuple[str, ...]) -> bool:
        """Whether the site's view stands; ``described`` are the texts that may name one."""
        return (
            bool(self.missing_view)
            and says_nothing(text(dataset, "ViewPosition"))
            and not items(dataset, "ViewCodeSequence")
            and not any(map(wording.names_view, described))
        )


HEADERS_ALONE = SiteTrust()


def says_nothing(value: str) -> bool:
    """Whether a value is absent, or one of those that stand where there is none."""
    return _SAYS_NOTHING.fullmatch(value.strip().casefold()) is not None


def remark(what: str) -> Remark:
    """What is written on a report that rests on a site's word."""
    return Remark("site-trust", f"not by the header, by what this site says of the archive: {what}")
