"""Whether a Patient ID names anybody: what devices and desks write where they have none identifies nobody."""

import re
import unicodedata

_PLACEHOLDER = re.compile(
    r"[0\W_]*|x+|(\d)\1{3,}|n/?a|none?|null|nil|unknown|unk|unbekannt|inconnu|desconocido|"
    r"anon(ymous|ymized|ymised)?|no ?(id|number)|(patient)?id|emergency|notfall|temp(orary)?|"
    r"unassigned|unidentified|not ?(available|assigned|given|known)"
)


def identifying(patient_id: str) -> str:
    """The number in the form in which numbers are compared, "" for one that identifies nobody.

    Case does not count, nor the width of digits (East Asian keyboards write both).
    """
    number = unicodedata.normalize("NFKC", patient_id).strip().casefold()
    return "" if _PLACEHOLDER.fullmatch(number) else number
