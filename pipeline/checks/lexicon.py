"""Words by which the checks recognise findings, negation, doubt and sides, in English and Chinese.

This is a second reading of the draft, kept apart from the parser that filled ``DraftReport.findings``,
so that one mistake does not hide another. ``terms`` are strict synonyms: only they can contradict each other.
``support`` are looser words that may justify the finding elsewhere ("opacity" supports "pneumonia").
"""

import re
from dataclasses import dataclass
from re import Pattern


@dataclass(frozen=True, slots=True)
class Term:
    """One finding: its key, the name shown to a reader, and how it is written.

    ``sided`` findings belong to one side of the chest; ``acute`` ones contradict "no acute abnormality";
    ``normal`` recognises statements that deny the finding without a negation word ("heart size is normal").
    """

    key: str
    label: str
    terms: Pattern[str]
    support: Pattern[str] | None = None
    normal: Pattern[str] | None = None
    sided: bool = False
    acute: bool = False


def words(*alternatives: str) -> Pattern[str]:
    """One pattern over ``alternatives``, case ignored."""
    return re.compile("|".join(alternatives), re.IGNORECASE)


LEXICON = (
    Term(
        "pleural_effusion",
        "pleural effusion",
        words(r"(?<!pericardial )\beffusions?\b", r"\bhydrothorax\b", "(?<!心包)积液", "胸水"),
        support=words("costophrenic", "pleural fluid", "肋膈角"),
        sided=True,
        acute=True,
    ),
    Term(
        "pneumothorax",
        "pneumothorax",
        words(r"\b(?:hydro)?pneumothora(?:x|ces)\b", "气胸"),
        support=words("pleural line", "胸膜线"),
        sided=True,
        acute=True,
    ),
    Term(
        "consolidation",
        "consolidation",
        words(r"\bconsolidations?\b", r"\bair-?space disease\b", "实变"),
        support=words(
            r"\bopacit", r"\binfiltrat", r"\bair-?space\b", r"\bpneumonia", "片状|斑片|浸润|肺炎|密度增高"
        ),
        sided=True,
        acute=True,
    ),
    Term(
        "pneumonia",
        "pneumonia",
        words(r"\bpneumonias?\b", "肺炎"),
        support=words(
            r"\bconsolidat", r"\bopacit", r"\binfiltrat", r"\bair-?space\b", "实变|片状|斑片|浸润|密度增高"
        ),
        sided=True,
        acute=True,
    ),
    Term(
        "nodule",
        "nodule",
        words(r"\bnodules?\b", r"\bnodular (?:opacity|opacities|density)\b", "结节"),
        support=words(r"\bmass(?:es)?\b", r"\blesions?\b", r"\bopacit", "肿块|团块|病灶"),
        sided=True,
    ),
    Term(
        "mass",
        "mass",
        words(r"\bmass(?:es)?\b", "肿块|团块"),
        support=words(r"\bnodul", r"\blesions?\b", r"\bopacit", "结节|病灶"),
        sided=True,
    ),
    Term(
        "atelectasis",
        "atelectasis",
        words(r"\batelecta\w+", "肺不张"),
        support=words(r"\bcollaps", r"\bopacit", "volume loss", r"\b(?:bi)?basilar", "条索|线状影"),
        sided=True,
    ),
    Term(
        "edema",
        "pulmonary oedema",
        words(r"\b(?:pulmonary|interstitial|alveolar) o?edema\b", "肺水肿"),
        support=words(
            r"\bcongestion",
            r"\binterstitial",
            r"\bvascular",
            r"(?<![a-z])kerley",
            r"\bopacit",
            "淤血|间质|肺门影?[^。；，]{0,4}模糊",
        ),
        acute=True,
    ),
    Term(
        "cardiomegaly",
        "cardiomegaly",
        words(
            r"\bcardiomegaly\b",
            r"\benlarged (?:heart|cardiac|cardiomediastinal)",
            r"\b(?:heart|cardiac)\b[^.;,]{0,60}?\benlarge(?:d|ment)\b",
            "(?:心影|心脏)[^。；，]{0,6}(?:增大|扩大)",
        ),
        support=words("cardiothoracic ratio", "心胸比"),
        normal=words(
            r"\b(?:heart|cardiac|cardiomediastinal)\b[^.;,]{0,40}?\b(?:normal|unremarkable|not enlarged)\b",
            r"\bnormal (?:heart|cardiac)\b",
            "(?:心影|心脏)[^。；，]{0,6}(?:正常|不大)",
        ),
    ),
    Term(
        "fracture",
        "fracture",
        words(r"\bfractur(?:e|es|ed)\b", "骨折"),
        support=words(r"\bcortical", r"\bbony defect", "骨皮质"),
        sided=True,
        acute=True,
    ),
    Term(
        "emphysema",
        "emphysema",
        words(r"(?<!subcutaneous )\bemphysema(?:tous)?\b", "肺气肿"),
        support=words("hyperinflat", "hyperexpan", "hyperlucen", "flatten", "过度充气|透亮度"),
    ),
    Term(
        "pacemaker",
        "pacemaker",
        words(r"\bpacemakers?\b", r"\bpacers?\b", r"\bpacing device\b", "起搏器"),
        support=words(r"\bleads?\b"),
        sided=True,
    ),
    Term(
        "catheter",
        "catheter",
        words(r"\bcatheters?\b", r"\bcentral (?:venous )?line\b", r"\bPICC\b", "静脉导管"),
        support=words(r"\bline\b", r"\bport\b", r"\btip\b", "导管"),
        sided=True,
    ),
)
"""Every finding the checks know, whichever family wrote the draft."""

ALL_NORMAL = words(
    r"\bno (?:acute|active)\b[^.;]{0,50}\b(?:abnormalit\w+|disease|process|findings?|pathology)\b",
    r"\b(?:normal|unremarkable) (?:chest|study|examination|radiograph|film)\b",
    r"\b(?:chest|study|examination) (?:is|appears) (?:normal|unremarkable)\b",
    "心肺(?:膈)?未见(?:明显)?异常",
    "未见(?:明显)?(?:急性|活动性)?(?:病变|异常)",
    "胸部正常",
)
"""Statements that deny every acute finding."""

LUNGS_CLEAR = words(
    r"\blungs (?:are|appear) (?:well[- ]expanded and )?clear\b",
    r"\bclear lungs\b",
    "(?:双肺|两肺)(?:野)?清晰",
)
"""Statements that deny consolidation, pneumonia, nodule and mass."""

NEGATION = words(
    r"\b(?:no|without|negative for|absence of|free of|clear of|not|never|neither|nor|none|lacks?)\b",
    r"(?<!partial )(?<!incomplete )(?<!confirm )(?<!document )(?<!ensure )(?<!until )\bresolution of\b",
    "未见|无(?!法)|没有|未发现|未及|未示|不伴",
)
"""Words that deny what follows them in the clause."""

NEGATED_AFTER = words(
    r"^[^.;,]{0,40}?\b(?:is|are|was|were) (?:not|absent|excluded)\b",
    r"^[^.;,]{0,40}?\b(?:not|none) (?:seen|identified|present|evident|detected|visible)\b",
    r"^[^.;,]{0,40}?\bruled out\b",
    r"^[^.;,]{0,40}?\b(?:has|have) (?:completely |entirely |fully )?resolved\b",
    r"^[^.;,]{0,40}?\bno longer (?:seen|identified|present|evident|detected|visible)\b",
    r"^ ?: ?(?:no|none|absent|negative)\b",
    "^(?:未见(?!(?:明显|显著)?(?:变化|改变|好转|吸收))|已?(?:排除|除外)|阴性|不明显)",
)
"""What may deny a finding just named."""

DOUBT = words(
    r"\b(?:cannot|can not|can't|could not|couldn't|not) (?:be )?(?:entirely |completely |fully )?"
    r"(?:exclude[d]?|rule[d]? out)\b",
    r"\b(?:exclude|rule out|evaluate for|assess for)\b",
    r"\b(?:possible|possibly|may|might|questionable|suspected|versus|vs|differential|risk of)\b",
    "[不未](?:能)?(?:完全)?(?:除外|排除)|不能(?:完全)?(?:除外|排除)|难以排除|可能|待排|待除外|疑",
)
"""Words that leave a finding open; such a mention neither states nor denies."""

OLD = words(r"\b(?:old|healed|healing|chronic|remote|long-?standing|calcified)\b", "陈旧|慢性|钙化")
"""Words that make a finding no acute one."""

NO_CHANGE = words(
    r"\b(?:no|without)(?: (?:significant|interval|appreciable|substantial|definite))* (?:change|increase|decrease)\b",
    "(?:未见|无|没有)(?:明显|显著)?(?:变化|改变|增[大多]|减[小少])",
)
"""Negations of a change: the finding itself is there."""

NO_FURTHER = words(
    r"\bno (?:other|additional|further|new|longer|interval)\b",
    r"\bnot only\b",
    "未见(?:其他|新)|无其他",
)
"""Negations that speak of something else than the finding itself."""

SCOPE_END = words(
    r"\b(?:but|however|although|though|except|apart from|other than|there (?:is|are)|which|whereas|while)\b",
    r", (?:an?|the|small|tiny|trace|mild|moderate|large|marked|severe|left|right|bilateral|patchy|with)\b",
    r"\band (?:an?|there|the|small|tiny|mild|moderate|large|marked|severe)\b",
    "但|然而|除|可见",
)
"""Where the reach of a negation ends."""

SIDE = words(
    r"\b(?P<both>bilateral(?:ly)?|both|bibasilar|biapical)\b",
    r"\b(?P<left>left)\b",
    r"\b(?P<right>right)\b",
    "(?P<both_zh>双|两侧|两肺)",
    "(?P<left_zh>左)",
    "(?P<right_zh>右)",
)
"""Words that name the patient's side."""

ZONE = words(
    r"(?P<upper>\bupper\b|\bapical\b|\bapex\b|上(?:肺)?(?:野|叶))",
    r"(?P<mid>\bmid(?:dle)?\b|中(?:肺)?(?:野|叶))",
    r"(?P<lower>\blower\b|\bbas(?:al|ilar|es?)\b|下(?:肺)?(?:野|叶))",
)
"""Words that name a third of the lung."""

SIZE = words(
    r"(?P<little>\b(?:small|tiny|trace|minimal|mild(?:ly)?|slight(?:ly)?)\b|少量|轻度|小)",
    r"(?P<moderate>\b(?:moderate(?:ly)?|medium)\b|中等量?|中量|中度)",
    r"(?P<great>\b(?:large|marked(?:ly)?|severe(?:ly)?|extensive|massive|gross(?:ly)?)\b|大量|重度|明显增大)",
)
"""Words that say how much of a finding there is."""

PLACED = words(r"^[^.;,]{0,30}?\b(?:in|on|at|over|of)(?: the)? (?:both|bilateral|left|right)\b")
"""A side named after the finding as its place ("consolidation in the right upper zone")."""

MIDLINE_STRUCTURE = words(
    r"\b(?:left|right)[- ](?:atri|ventric|heart|cardiac|hemi-?diaph|main|paratrach|mediast|aort)\w*",
    "[左右](?:心房|心室|心缘|膈|主支气管)",
)
"""Anatomy named with a side that is not the side of a finding."""

HILUM = words(r"\b(?:left|right)[- ]hil\w*", "[左右]肺门")
"""A hilum's side is the side of what can lie in it, a nodule, mass, consolidation or pneumonia, and of nothing else."""
