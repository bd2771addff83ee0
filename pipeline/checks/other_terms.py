"""How English and Chinese reports write findings of heart, mediastinum, chest wall and diaphragm, and devices."""

from typing import Final

from pipeline.checks.term import Term, words

_NORMAL = r"(?:normal|unremarkable|within normal limits)"

HEART_AND_MEDIASTINUM: Final = (
    Term(
        "cardiomegaly",
        "cardiomegaly",
        words(
            r"\bcardiomegaly\b",
            r"\b(?:cardiac|heart) enlargement\b",
            r"\b(?:enlarged|enlargement of the|dilated) (?:heart|cardiac|cardiomediastinal)",
            r"\b(?:heart|cardiac)\b[^.;,]{0,60}?\benlarge(?:d|ment)\b",
            r"\bcardiothoracic ratio [^.;,]{0,20}?(?:increased|enlarged|exceed|greater than|above)",
            "(?:心影|心脏|全心)[^。；，]{0,8}(?:增大|扩大|饱满)|普大[型心]|"
            "心胸比(?:[例率值])?[^。；，]{0,4}(?:增大|增高|大于)",
        ),
        support=words("cardiothoracic ratio", r"\b(?:heart|cardiac)\b", "心胸比|心影|心脏|左室|左心"),
        normal=words(
            rf"\b(?:heart|cardiac|cardiomediastinal)\b[^.;,]{{0,40}}?\b(?:{_NORMAL}|not enlarged)\b",
            r"\bnormal(?:-sized)? (?:heart|cardiac)\b",
            r"\bcardiothoracic ratio [^.;,]{0,20}?(?:normal|less than|below)",
            "(?:心影|心脏)[^。；，]{0,10}(?:正常|不大|未见(?:明显)?(?:增大|扩大|异常))|"
            "心胸比(?:[例率值])?[^。；，]{0,4}(?:正常|小于)",
        ),
    ),
    Term(
        "mediastinal_widening",
        "mediastinal widening",
        words(
            r"\bmediastin\w+\b[^.;,]{0,30}?\b(?:wid(?:ened|ening|er)|broadened)\b",
            r"\b(?:wid(?:ened|ening of the)|broad(?:ened)?) (?:\w+ )?mediastin",
            "纵隔[^。；，]{0,6}(?:增宽|变宽|加宽)",
        ),
        support=words(r"\bmediastin", r"\baort", "纵隔|主动脉"),
        normal=words(
            rf"\b(?:cardio)?mediastin\w+\b[^.;,]{{0,30}}?\b{_NORMAL}\b",
            "纵隔[^。；，]{0,4}(?:不宽|正常|未见(?:明显)?(?:增宽|异常))",
        ),
    ),
    Term(
        "shift",
        "shift of the midline",
        words(
            r"\b(?:trache|mediastin)\w*\b[^.;,]{0,30}?\b(?:deviat|shift|displac)\w*",
            r"\b(?:shift|deviation|displacement) of the (?:trachea|mediastin)",
            "(?:气管|纵隔)[^。；，居]{0,8}(?:移位|偏移|[左右]移|偏[左右]|[左右]偏)",
        ),
        support=words(r"\btrache", r"\bmediastin", "气管|纵隔"),
        implied=words(
            r"\b(?:trachea|mediastinum) (?:is|are|remains?|appears?) (?:midline|central|centered|centred)",
            r"\bmidline trachea",
            "(?:气管|纵隔)[^。；，]{0,6}居中",
        ),
    ),
    Term(
        "hilum",
        "hilar enlargement",
        words(
            r"\bhil(?:um|a|ar)\b[^.;,]{0,20}?\b(?:enlarge(?:d|ment)|prominen(?:t|ce)|full(?:ness)?|bulky)\b",
            r"\b(?:enlarged|prominent|bulky|full) (?:\w+ )?hil(?:um|a|ar)\b",
            r"\bfullness of the (?:\w+ )?hil(?:um|a)\b",
            "肺门[^。；，]{0,4}(?:增大|增浓|增宽|饱满|肿大|突出)",
        ),
        support=words(r"\bhil", r"\badenopathy", r"\blymphadenopathy", r"\bmass", r"\bvascul", "肺门|淋巴结"),
        normal=words(
            rf"\bhil(?:a|um|ar)\b[^.;,]{{0,30}}?\b{_NORMAL}\b",
            "肺门[^。；，]{0,6}(?:不大|正常|未见(?:明显)?(?:增大|异常))",
        ),
        sided=True,
    ),
    Term(
        "adenopathy",
        "enlarged lymph nodes",
        words(
            r"\b(?:lymph)?adenopathy\b",
            r"\benlarged (?:\w+ ){0,2}(?:lymph )?nodes\b",
            "淋巴结[^。；，]{0,4}(?:肿大|增大)",
        ),
        support=words(r"\bhil", r"\bmediastin", r"\bnodes?\b", "肺门|纵隔|淋巴结"),
        sided=True,
    ),
    Term(
        "pneumomediastinum",
        "pneumomediastinum",
        words(
            r"\bpneumomediastinum\b",
            r"\bmediastinal (?:air|gas|emphysema)\b",
            "纵隔(?:内)?(?:气肿|积气|[^。；，]{0,3}气体)",
        ),
        support=words(r"\bmediastin", "纵隔"),
        acute=True,
    ),
    Term(
        "hernia",
        "hiatal hernia",
        words(r"\bhiat(?:al|us) hernia\b", "食管裂孔疝|膈疝"),
        support=words("retrocardiac", r"\bdiaphragm", r"\bair-fluid", "心影后|心后|膈|液平"),
        concluded=True,
    ),
)
"""Findings of heart, mediastinum and hila."""

WALL_AND_ABDOMEN: Final = (
    Term(
        "fracture",
        "fracture",
        words(r"\bfractur(?:e|es|ed)\b", "骨折"),
        support=words(
            r"\bcortical",
            r"\bbony defect",
            r"\bcallus",
            r"\bdeformit",
            r"\bstep-?off",
            "骨皮质|骨质|骨痂|断端|错位|不连续",
        ),
        implied=words(
            r"\b(?:bones|ribs|osseous structures|bony (?:thorax|structures)|clavicles?|skeleton)\b"
            r"[^.;,]{0,25}?\b(?:are|is|appears?) (?:grossly )?(?:intact|normal|unremarkable)\b",
            "(?:骨质|肋骨|锁骨|骨性胸廓)[^。；，]{0,8}(?:完整|(?<!不)连续|正常|未见(?:明显|明确)?异常)",
        ),
        sided=True,
        acute=True,
    ),
    Term(
        "dislocation",
        "dislocation",
        words(r"\bdislocat(?:ions?|ed)\b", r"\b(?:sub)?luxat(?:ions?|ed)\b", "脱位"),
        support=words(r"\bhumer", r"\bshoulder", r"\bjoint", "关节|肩"),
        sided=True,
    ),
    Term(
        "subcutaneous_emphysema",
        "subcutaneous emphysema",
        words(
            r"\b(?:subcutaneous|surgical|soft[- ]tissue) (?:emphysema|air|gas)\b",
            "皮下[^。；，]{0,4}(?:气肿|积气)|皮下气体",
        ),
        support=words(r"\bchest wall", r"\bsoft tissue", "胸壁|软组织"),
        sided=True,
    ),
    Term(
        "raised_diaphragm",
        "raised hemidiaphragm",
        words(
            r"\b(?:elevat(?:ed|ion)|rais(?:ed|ing)|eventration)\b[^.;,]{0,30}?\b(?:hemi-?)?diaphragms?\b",
            r"\b(?:hemi-?)?diaphragms?\b[^.;,]{0,25}?\b(?:elevat(?:ed|ion)|raised|higher)\b",
            r"\b(?:elevated|raised|high) (?:\w+ )?dome\b|\bdome\b[^.;,]{0,20}?\b(?:elevated|raised)\b",
            "膈(?:[肌面顶]|肌面)?[^。；，]{0,6}(?:抬高|升高|上抬|膨升|膨出|上升)",
        ),
        support=words(r"\bdiaphragm", r"\bdomes?\b", "膈"),
        sided=True,
        concluded=True,
    ),
    Term(
        "pneumoperitoneum",
        "free air below the diaphragm",
        words(
            r"\bpneumoperitoneum\b",
            r"\bfree (?:\w+ )?(?:air|gas)\b",
            "膈下[^。；，]{0,8}(?:游离|气体|积气)|气腹",
        ),
        support=words(r"\bdiaphragm", r"\blucen", "膈下|膈面"),
        acute=True,
    ),
    Term(
        "scoliosis",
        "scoliosis",
        words(r"\b(?:kypho)?scolio(?:sis|tic)\b", r"\bcurvature of the (?:\w+ )?spine\b", "侧[弯凸]"),
        support=words(r"\bspin[ea]", r"\bcurv", "脊柱|胸椎"),
        concluded=True,
    ),
)
"""Findings of the chest wall, the diaphragm and below."""

DEVICES: Final = (
    Term(
        "pacemaker",
        "pacemaker",
        words(
            r"\bpacemakers?\b",
            r"\bpacers?\b",
            r"\bpacing (?:device|generator|system)\b",
            r"\b(?:implantable|cardioverter)[- ]defibrillators?\b",
            r"(?-i:\b(?:AICD|ICD)s?\b)",
            "起搏器|(?-i:ICD)",
        ),
        support=words(r"\b(?:leads?|generator|electrodes?|defibrillator)\b", "电极|导线|除颤"),
        sided=True,
    ),
    Term(
        "catheter",
        "catheter",
        words(
            r"(?<!pigtail )(?<!foley )(?<!drainage )\bcatheters?\b",
            r"\bcentral (?:venous )?(?:line|access)\b",
            r"\b(?:IJ|jugular|subclavian|PICC) lines?\b",
            r"\b(?:PICC|CVC|port-?a-?cath|mediport|chemoport)\b",
            "静脉(?:置管|导管)|(?<!引流)(?<!气管)(?<!胃)导管|输液港|(?-i:PICC|CVC)",
        ),
        support=words(
            r"\blines?\b",
            r"\bport\b",
            r"\btip\b",
            r"\bcatheter",
            "导管|置管|管影|管端|[末头]端|上腔静脉",
        ),
        sided=True,
    ),
    Term(
        "drain",
        "chest drain",
        words(
            r"\bchest (?:tubes?|drains?)\b",
            r"\b(?:thoracostomy|pleural|intercostal|pigtail) (?:tubes?|drains?|catheters?)\b",
            "(?<!脑室)引流管|引流导管|闭式引流",
        ),
        support=words(r"\b(?:tube|drain|pigtail|catheter)", "引流|管影|导管|置管"),
        sided=True,
    ),
    Term(
        "endotracheal_tube",
        "endotracheal tube",
        words(
            r"\bendotracheal tubes?\b",
            r"\bETT\b",
            r"\bET tube\b",
            r"\btracheostomy\b",
            "气管(?:插管|导管|套管)|气管切开",
        ),
        support=words(r"\btubes?\b", r"\bintubat", r"\blines?\b", "插管|套管|管影"),
    ),
    Term(
        "gastric_tube",
        "gastric tube",
        words(
            r"\b(?:naso|oro)?(?:gastric|enteric) tubes?\b",
            r"\b(?:NG|OG|feeding|dobhoff) tubes?\b",
            "胃管|鼻饲管|胃肠减压管",
        ),
        support=words(r"\btubes?\b", r"\blines?\b", "管影|置管"),
    ),
)
"""Devices."""
