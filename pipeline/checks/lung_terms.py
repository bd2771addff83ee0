"""How English and Chinese reports write findings of lungs and pleura."""

from typing import Final

from pipeline.checks.term import Term, words

_INFILTRATES = (
    r"\bconsolidat",
    r"\bopaci",
    r"\binfiltrat",
    r"\bair-?space\b",
    r"\bpneumoni",
    r"\bdensit",
    r"\bbronchogram",
    r"\bshadow",
    "实变|片[状样影]|[大小斑团]片|浸润|肺炎|炎症|炎性|感染|密度(?:增高|增浓)|渗出|磨玻璃|阴影|高密度|"
    "致密影|模糊影",
)
_LESIONS = (
    r"\bnodul",
    r"\bmass",
    r"\blesions?\b",
    r"\bopaci",
    r"\bgranuloma",
    r"\bmetasta",
    r"\bdensit",
    "结节|肿块|团块|病灶|圆形|占位|包块|肿瘤|转移",
)
_INACTIVE = words("[双两左右]侧?肺(?:野|部|内)*(?:未见|无)(?:明显|明确)?(?:急性|活动性)(?:病变|病灶)")

PLEURA_AND_LUNG: Final = (
    Term(
        "pleural_effusion",
        "pleural effusion",
        words(
            r"(?<!pericardial )(?<!joint )\beffusions?\b",
            r"\b(?:hydro|ha?emo|pyo)thora(?:x|ces)\b",
            r"\bhydropneumothora(?:x|ces)\b",
            r"\bpleural (?:fluid|collections?)\b",
            r"\bfluid (?:with)?in the (?:\w+ )?(?:pleural|fissures?|major|minor)\b",
            "(?<!心包)(?<!关节)积液",
            "(?<!腹)胸水|胸腔积[水血脓]|[血脓]胸|液气胸|胸腔(?:内)?(?:可?见)?[^。；，]{0,4}液体",
        ),
        support=words(
            "costophrenic",
            "hemithorax",
            r"\bblunt",
            r"\bfissur",
            r"\bmeniscus",
            "肋膈[角窦]|叶间|弧形|外高内低|变钝",
        ),
        implied=words(
            r"\bcostophrenic (?:angles?|sulci|sulcus|recess\w*) (?:is|are|remains?|appears?) "
            r"(?:sharp|clear|preserved|maintained)",
            r"\b(?:sharp|clear|preserved) (?:[\w-]+ )?costophrenic",
            "肋膈[角窦](?:[^。；，]{0,3})(?:锐利|清晰|清楚|存在|正常)",
        ),
        sided=True,
        acute=True,
    ),
    Term(
        "pneumothorax",
        "pneumothorax",
        words(
            r"\b(?:hydro|ha?emo)?pneumothora(?:x|ces)\b",
            r"\bptx\b",
            r"\b(?:intra)?pleural (?:air|gas)\b",
            r"\bair in the (?:\w+ )?pleural (?:space|cavity)\b",
            "气胸|胸腔(?:内)?(?:积气|(?:可?见)?游离气体)",
        ),
        support=words(
            "pleural line", r"\bcollaps", "lung markings", "deep sulcus", "胸膜线|压缩|肺纹理|无纹理|气液"
        ),
        sided=True,
        acute=True,
    ),
    Term(
        "consolidation",
        "consolidation",
        words(
            r"\bconsolidat(?:ions?|ive|ed)\b",
            r"\bair-?space (?:disease|opaci\w+|process)\b",
            "实变",
        ),
        support=words(*_INFILTRATES),
        normal=_INACTIVE,
        sided=True,
        acute=True,
    ),
    Term(
        "pneumonia",
        "pneumonia",
        words(
            r"\b(?:broncho)?pneumoni(?:as?|c)\b",
            r"\binfectious (?:process|infiltrates?|disease)\b",
            "肺炎|肺部(?:[^。；，]{0,2})感染|炎症|炎性|感染(?:性病变|灶)|[肺叶野]感染",
        ),
        support=words(*_INFILTRATES),
        normal=_INACTIVE,
        sided=True,
        acute=True,
    ),
    Term(
        "opacity",
        "opacity",
        words(
            r"\bopacit(?:y|ies)\b",
            r"\bopacifi(?:cation|ed)\b",
            r"\binfiltrat(?:es?|ions?)\b",
            r"\bground[- ]glass\b",
            r"(?<!heart )(?<!cardiac )(?<!breast )(?<!nipple )(?<!hilar )\bshadow(?:ing|s)?\b",
            "(?:[斑大小团]片|片[状样絮]|絮状|云雾状)[^。；，、]{0,8}影|斑片|密度(?:增高|增浓)|磨玻璃|"
            "浸润|渗出|阴影",
        ),
        support=words(*_INFILTRATES, *_LESIONS, r"\batelecta", "volume loss", r"\bo?edema", "不张|水肿"),
        unless=words(
            r"\b(?:linear|streak\w*|band\w*|plate\w*|strand\w*|reticul\w*|interstitial|nodul\w*|mass\w*|"
            r"atelecta\w*)\b",
            r"\b(?:scar\w*|fibro\w*|calcif\w*|artifact\w*|o?edema|vascular|overlying|overlap\w*)\b",
            "条索|线状|条状|间质|结节|肿块|不张|纤维|钙化|伪影|水肿|重叠",
        ),
        sided=True,
    ),
    Term(
        "nodule",
        "nodule",
        words(
            r"\b(?:micro)?nodul(?:es?|arity)\b",
            r"\bnodular (?:opacity|opacities|densit(?:y|ies)|lesions?|foc(?:us|i)|shadows?)\b",
            r"\bcoin lesions?\b",
            "结节|小圆形[^。；，]{0,4}影",
        ),
        support=words(*_LESIONS),
        sided=True,
    ),
    Term(
        "mass",
        "mass",
        words(
            r"\bmass(?:es)?\b(?! effect)",
            r"\bmass-?like (?:opacit|densit|lesion|consolid)\w*",
            r"\b(?:tumou?rs?|neoplasms?)\b",
            "肿块|团块|包块|占位|肿瘤|肺癌",
        ),
        support=words(*_LESIONS, r"\bhil(?:um|ar|a)\b", "肺门|纵隔"),
        sided=True,
    ),
    Term(
        "cavity",
        "cavity",
        words(
            r"(?<!pleural )(?<!thoracic )(?<!chest )(?<!abdominal )(?<!peritoneal )\bcavit(?:y|ies|ary|"
            r"ation|ating)\b",
            "空洞",
        ),
        support=words(r"\blucen", r"\bcyst", r"\babscess", r"\bair-fluid", "透亮|空腔|脓肿|气液|液平"),
        sided=True,
    ),
    Term(
        "atelectasis",
        "atelectasis",
        words(
            r"\batelecta\w+",
            r"\b(?:lobar|lung|lobe|segmental) collapse\b",
            r"\bcollapse of the (?:\w+ ){0,3}(?:lobes?|lungs?)\b",
            "不张|膨胀不[全良]|萎陷",
        ),
        support=words(
            r"\bcollaps",
            r"\bopaci",
            "volume loss",
            r"\b(?:bi)?basilar",
            r"\blinear",
            r"\bshift",
            r"\bband",
            "条索|线状影|条状|盘状|致密|体积缩小|移位|密度增高",
        ),
        sided=True,
    ),
    Term(
        "edema",
        "pulmonary oedema",
        words(
            r"(?<!tissue )(?<!wall )(?<!subcutaneous )(?<!peripheral )(?<!leg )\bo?edema\b",
            "(?:肺|间质性?|肺泡性)水肿",
        ),
        support=words(
            r"\bcongest",
            r"\binterstitial",
            r"\bvascular",
            r"\bcephali",
            r"(?<![a-z])kerley",
            r"\bseptal",
            r"\bopaci",
            r"\bhaz[ey]",
            "淤血|瘀血|充血|间质|蝶翼|肺门影?[^。；，]{0,6}模糊",
        ),
        acute=True,
    ),
    Term(
        "congestion",
        "vascular congestion",
        words(
            r"\b(?:vascular|venous|pulmonary) congestion\b",
            r"\bcongested\b",
            r"\bcephali[sz]ation\b",
            "肺(?:[^。；，]{0,2})[淤瘀]血|肺充血",
        ),
        support=words(
            r"\bo?edema", r"\bvascula", r"\binterstitial", r"\bkerley", r"\bhil", "肺门|肺纹理|水肿|肺血"
        ),
        concluded=True,
    ),
    Term(
        "emphysema",
        "emphysema",
        words(
            r"(?<!subcutaneous )(?<!surgical )(?<!mediastinal )(?<!tissue )\bemphysema(?:tous)?\b", "肺气肿"
        ),
        support=words(
            "hyperinflat",
            "hyperexpan",
            "hyperlucen",
            "flatten",
            "overinflat",
            r"\bCOPD\b",
            r"\bbull",
            "过度充气|透亮度|透光度|低平|桶状|肺大[疱泡]",
        ),
    ),
    Term(
        "bulla",
        "bulla",
        words(r"\bbull(?:a|ae|ous)\b", r"\bblebs?\b", "肺大[疱泡]"),
        support=words(r"\blucen", r"\bcyst", "透亮|囊"),
        sided=True,
    ),
    Term(
        "bronchiectasis",
        "bronchiectasis",
        words(r"\bbronchiecta\w+", "支气管扩张|支扩"),
        support=words(r"\bbronch", r"\btram", r"\bring", "支气管|蜂窝|卷发|囊状|轨道"),
        sided=True,
    ),
    Term(
        "scarring",
        "scarring",
        words(r"\bscar(?:ring|s|red)?\b", "纤维(?:条索|灶|增殖)|条索"),
        support=words(r"\bfibro", r"\blinear", r"\bopaci", r"\bband", "纤维|陈旧|线状|条状"),
        sided=True,
        concluded=True,
    ),
    Term(
        "tuberculosis",
        "tuberculosis",
        words(r"\btubercul(?:osis|ous)\b", "结核"),
        sided=True,
        concluded=True,
    ),
    Term(
        "pleural_thickening",
        "pleural thickening",
        words(
            r"\bpleural[- ](?:\w+ )?(?:thickening|plaques?)\b",
            r"\bthickened pleura\b",
            r"\bthickening of the (?:\w+ )?pleura\b",
            "胸膜[^。；，]{0,6}(?:增厚|肥厚|粘连)",
        ),
        support=words(r"\bpleura", r"\bcapping", r"\bapical cap", "胸膜|肋膈[角窦]"),
        sided=True,
    ),
)
"""Findings of lungs and pleura."""
