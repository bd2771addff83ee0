"""Whether a Patient ID names anybody: what devices and desks write where they have none identifies nobody."""

import re
import unicodedata

_PLACEHOLDER = re.compile(
    r"[0\W_]*|x+(?:[-_ ]*x+)*|(\d)\1{3,}|n[/.]?a\.?|n\W?n\W?|s[/.]?n\.?|none?( given)?|null|\W*null\W*(null)?|nil|nan|"
    r"unk(now|nown)?([\W_]*unknown)?|unbekannt|inconnue?|desconocid[oa]|desconhecid[oa]|sconosciut[oa]|onbekend|okand|"
    r"ukjent|ukendt|tuntematon|ismeretlen|necunoscuta?|bilinmiyor|nieznan[ya]|neznam[ya]|neznama|nepoznato?|αγνωστ\w{1,2}|"
    r"неизвест(ен|но|на|ный|ная)|нет|нет данных|غير معروف|مجهول|不明|不详|不詳|未知|无|無|미상|불명|"
    r"anon(ymous|ymized|ymised)?|no ?(id|number|mrn|name)|sin (datos|numero|id)|sem (dados|numero|id)|"
    r"senza|sans|ohne|aucun|(patient|pat)?id|pid|mrn|emergency|notfall|urgence|urgencias?|temp(orary)?|empty|blank|missing|pending|tbd|dummy|"
    r"unassigned|unidentified|undefined|nicht bekannt|not ?(available|assigned|given|known|entered)"
)


def identifying(patient_id: str) -> str:
    """The number in the form in which numbers are compared, "" for one that identifies nobody.

    Case does not count, nor the width of digits (East Asian keyboards write both).
    """
    number = unicodedata.normalize("NFKC", patient_id).strip().casefold()
    bare = "".join(one for one in unicodedata.normalize("NFD", number) if not unicodedata.combining(one))
    return "" if _PLACEHOLDER.fullmatch(unicodedata.normalize("NFC", bare)) else number
