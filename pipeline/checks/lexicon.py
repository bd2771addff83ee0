"""Words by which the checks recognise negation, doubt, sides, zones and sizes, in English and Chinese.

The findings themselves are in ``terms``.
"""
# ruff: noqa: RUF001  Chinese punctuation is what these patterns look for.

from pipeline.checks.term import words

ALL_NORMAL = words(
    r"\bno (?:acute|active)\b(?![^.;]{0,40}\b(?:osseous|bony|bone|skeletal|abdominal|vascular|fracture))"
    r"[^.;]{0,50}\b(?:abnormalit\w+|disease|process|findings?|pathology)\b",
    r"\bno (?:evidence of |radiographic evidence of |significant |radiographic )?"
    r"(?:cardiopulmonary|intrathoracic|thoracic|cardiothoracic)\b[^.;]{0,25}\b(?:abnormalit\w+|disease|"
    r"process|findings?|pathology)\b",
    r"^no (?:significant |radiographic |visible )?abnormalit(?:y|ies)\b(?! of| in the [lr])",
    r"\b(?:normal|unremarkable|negative|clear) (?:chest|study|examination|radiograph|film|exam|cxr|x-?ray)\b",
    r"\b(?:chest|study|examination|radiograph|film|exam)\b (?:is|appears|within) "
    r"(?:entirely |completely |within )?(?:normal|unremarkable|clear|negative)\b",
    "心肺(?:膈)?(?:未见|无)(?:明显|明确|显著)?异常",
    "(?:^|[，；])(?:目前|本次|现|此次)?(?:心肺膈?|[心肺膈]、|[及和]|胸部|胸片|平片|X线|DR|摄片|检查|"
    "影像|正侧?位|所示|[内均]|现)*"
    "(?:未见|无|未发现|未及|未显示|未提示)(?:明显|明确|显著|确切)?(?:急性|活动性|器质性|实质性)?(?:病变|"
    "异常|病灶|改变|病理)",
    "(?:^|[，；])(?:胸部|胸片|心肺膈?|平片|X线){1,2}(?:检查|表现|影像)?(?:大致)?(?:正常|无殊)|正常胸片",
)
"""Statements that deny every acute finding."""

LUNGS_CLEAR = words(
    r"\b(?:lungs?(?: fields?)?|lung fields|hemithora(?:x|ces)) (?:is|are|appears?|remains?) "
    r"(?:both |bilaterally |well[- ](?:expanded|aerated|inflated) and |grossly |essentially |fully )*clear\b",
    r"\bclear (?:lungs?|lung fields)\b",
    r"\blungs? clear\b",
    r"\bno (?:focal )?(?:lung|pulmonary|parenchymal) (?:abnormalit\w+|lesions?|disease|opacit\w+)\b",
    "(?:[双两左右]侧?肺|肺)(?:野|部|实质)?(?:内)?(?:透亮度良好|(?:均)?清[晰楚亮])",
    "(?:[双两左右]侧?肺|肺)(?:野|部|实质|内)*(?:未见|无)(?:明显|明确)?(?:异常|实质性?(?:病变|病灶)|病灶|"
    "异常密度影?)",
)
"""Statements that deny consolidation, pneumonia, opacity, nodule and mass."""

OTHERWISE = words(
    r"\b(?:otherwise|except|apart|aside|besides|other than|elsewhere|not|remainder|rest of|remaining)\b",
    "余|除|其他|其它",
)
"""Words by which a statement of normality leaves something out."""

_SHOWN = (
    r"(?:seen|identified|present|evident|detected|visible|visuali[sz]ed|demonstrated|noted|appreciated|"
    r"observed|"
    r"apparent|found|shown|recogni[sz]ed|discern(?:ed|ible)|suspected)"
)

NEGATION = words(
    r"\b(?:no|without|negative for|absence of|free of|clear of|not|never|neither|nor|none|lacks?|"
    r"lack of|devoid of|nil)\b",
    r"\b(?:fails? to (?:show|reveal|demonstrate)|isn't|aren't|doesn't|don't|wasn't|weren't|"
    r"unremarkable for|exclud(?:es|ing))\b",
    r"(?:^|[.;,] )(?:now |fully |completely )?(?:resolved|cleared)(?= \w)",
    r"(?<!partial )(?<!incomplete )(?<!confirm )(?<!document )(?<!ensure )(?<!until )\bresolution of\b",
    "未(?:能)?(?:见|发现|及|示|显示|提示|查见|探及|显影|出现|闻|扪及)|(?<!有)无(?!法|名)|没有|不伴|不见|"
    "不存在|不支持|不考虑|并非",
)
"""Words that deny what follows them in the clause."""

NEGATED_AFTER = words(
    r"^[^.;,]{0,40}?\b(?:is|are|was|were) (?:absent|excluded|gone)\b",
    rf"^[^.;,]{{0,40}}?\b(?:not|none|never) (?:\w+ )?{_SHOWN}\b",
    r"^[^.;,]{0,40}?\b(?:cannot|can not|can't|could not) be (?:seen|identified|found|detected|"
    r"demonstrated)\b",
    r"^[^.;,]{0,40}?\b(?:is|are|was|were) not(?=[.;,]|$)",
    r"^[^.;,]{0,40}?\bruled out\b",
    r"^[^.;,]{0,40}?\b(?:has|have) (?:now |since )?(?:completely |entirely |fully )?(?:resolved|cleared|"
    r"disappeared)\b",
    rf"^[^.;,]{{0,40}}?\bno longer (?:\w+ )?{_SHOWN}\b",
    r"^ ?: ?(?:no|none|nil|absent|negative)\b",
    "^(?:征象?|影像?|表现|改变|病变)?(?:均)?(?:未(?:见|显示|发现)(?!(?:明显|显著)?(?:变化|改变|好转|"
    "吸收))|已?(?:排除|除外)|阴性|不明显|不存在)",
    "^(?:征象?|影像?|表现|病变)?(?:现|今|目前)?(?:已|均|均已)?(?:完全)?(?:消失|消散)",
    "^(?:征象?|影像?|表现|病变)?(?:现|今|目前)?(?:已|均已|已完全|完全)吸收|^(?:影|灶)?吸收(?=[。；，]|$)",
)
"""What may deny a finding just named."""

DOUBT = words(
    r"\b(?:cannot|can not|can't|could not|couldn't|not) (?:be )?(?:entirely |completely |fully |definitely )?"
    r"(?:exclude[d]?|rule[d]? out)\b",
    r"\b(?:exclude|rule out|evaluate for|assess for)\b",
    r"\b(?:possible|possibly|may|might|could|questionable|question of|equivocal|suspected|versus|vs|"
    r"differential|risk of)\b",
    r"\b(?:borderline|upper limits? of normal|top[- ]normal|query)\b",
    "[不未](?:能)?(?:完全)?(?:除外|排除)|不能(?:完全)?(?:除外|排除)|难以?排除|可能|待[排查]|待除外|疑|"
    "饱满|有无|正常(?:高值|上限)|[？?]",
)
"""Words that leave a finding open; such a mention neither states nor denies."""

OLD = words(
    r"\b(?:old|healed|healing|chronic|remote|long-?standing|calcified|prior|previous|granulomas?|united|"
    r"partially healed)\b",
    "陈旧|慢性|钙化|愈合|畸形愈合|硬结|既往",
)
"""Words that make a finding no acute one."""

RECENT = words(
    r"\b(?:acute|active|new|recent|suspicious|worrisome|displaced)\b", "急性|活动性|新鲜|新发|可疑"
)
"""Words by which a denial leaves out what is old."""

NO_CHANGE = words(
    r"\b(?:no|without)(?: (?:significant|interval|appreciable|substantial|definite|relevant|major))* "
    r"(?:change|increase|decrease|progression|improvement|worsening)\b",
    r"\bnot (?:significantly |appreciably |substantially |much |yet |fully |completely |entirely )*"
    r"(?:changed|increased|decreased|improved|worsened|progressed|resolved|cleared|different)\b",
    "(?:未见|无|没有)(?:明显|显著|确切)?(?:变化|改变|增[大多]|减[小少]|好转|进展|吸收|缩小)",
)
"""Negations of a change: the finding itself is there."""

NO_FURTHER = words(
    r"\bno (?:other|additional|further|new|longer|interval)\b",
    r"\bnot only\b",
    "未见(?:明显)?(?:其[他它]|新|增)|无(?:其[他它]|新)|余[^。；，]{0,6}(?:未见|无)",
)
"""Negations that speak of something else than the finding itself."""

SCOPE_END = words(
    r"\b(?:but|however|although|though|except|exception|apart from|aside from|other than|save for|"
    r"besides|yet|"
    r"there (?:is|are)|which|whereas|while)\b",
    r", (?:an?|the|small|tiny|trace|minimal|mild|moderate|large|marked|severe|left|right|bilateral|"
    r"bibasilar|patchy|"
    r"extensive|subtle|multiple|stable|persistent|unchanged|with)\b",
    r"\band (?:an?|there|the|small|tiny|trace|minimal|mild|moderate|large|marked|severe)\b",
    "但|然而|而(?=[左右双两])|除|可见|仅|，(?:[左右双两余见示呈伴于]|考虑|其余|局部|局限|心影|纵隔|符合|"
    "提示|气管|主动脉)",
)
"""Where the reach of a negation ends."""

SIDE = words(
    r"\b(?P<both>bilateral(?:ly)?|both|bibasilar|bibasal|biapical|(?:either|each) side)\b",
    r"\b(?P<left>left|lt|lingula|lingular|(?-i:LUL|LLL|LIJ|L(?= (?:lung|base|apex|sided?|hemithorax|"
    r"pleural|effusion|pneumothorax))))\b",
    r"\b(?P<right>right|rt|middle lobe|(?-i:RUL|RML|RLL|RIJ|R(?= (?:lung|base|apex|sided?|hemithorax|"
    r"pleural|effusion|pneumothorax))))\b",
    "(?P<both_zh>双|两侧|两肺|两(?=[上中下]肺|膈|胸|肋|肺)|左右[两双]?侧|左、右)",
    "(?P<left_zh>左|舌[叶段])",
    "(?P<right_zh>右|中叶)",
)
"""Words that name the patient's side."""

ZONE = words(
    r"(?P<upper>\bupper\b|\bapic(?:al|es)\b|\bapex\b|上(?=[中下、及和]{0,3}肺?[野叶]|肺)|肺尖|"
    r"(?-i:\b[RL]UL\b))",
    r"(?P<mid>\bmid(?:dle)?\b|\blingula\w*|中(?=[上下、及和]{0,3}肺?[野叶]|肺)|舌[叶段]|(?-i:\bRML\b))",
    r"(?P<lower>\blower\b|\bbas(?:al|ilar|es?)\b|\bbibas\w+|下(?=[上中、及和]{0,3}肺?[野叶]|肺)|肺底|"
    r"基底|(?-i:\b[RL]LL\b))",
)
"""Words that name a third of the lung."""

SIZE = words(
    r"(?P<little>\b(?:small|tiny|trace|minimal|minor|mild(?:ly)?|slight(?:ly)?|little|subtle)\b|少量|"
    r"少许|微量|轻[度微]|微小|略|稍|(?<!大)小)",
    r"(?P<moderate>\b(?:moderate(?:ly)?|medium)\b|中等量?|中量|中度)",
    r"(?P<great>\b(?:large|marked(?:ly)?|severe(?:ly)?|extensive|massive|gross(?:ly)?|huge|"
    r"siz(?:e)?able|substantial|significant)\b"
    "|大量|重度|明显增大|显著增大|巨大|大片)",
)
"""Words that say how much of a finding there is."""

PLACED = words(
    r"^[^.;,]{0,30}?\b(?:in|on|at|over|of|within|involving|overlying|occupying|throughout)(?: the)?(?: \w+)? "
    r"(?:both|bilateral|left|right|either side|each side|lingula|(?-i:LUL|LLL|RUL|RML|RLL))\b",
    "^[^。；，]{0,3}[（(](?:左|右|双|两)侧?[)）]",
)
"""A side named after the finding as its place ("consolidation in the right upper zone")."""

MIDLINE_STRUCTURE = words(
    r"\b(?:left|right)(?:[- ]sided)?[- ](?:atri|ventric|heart|cardiac|main|paratrach|mediast|aort|"
    r"lateral (?:view|film|decubitus|projection|radiograph)|anterior oblique)\w*",
    r"\b(?:deviat|shift|displac|convex|rotat|turn)\w* (?:\w+ )?(?:to|towards?) the (?:left|right)\b",
    r"\b(?:left|right) ?(?:ward|shift)\w*",
    r"\b(?:(?:slightly |much )?(?:greater|larger|more|worse|less|smaller)|predominantly|mainly|especially)"
    r"(?: prominent| extensive| marked)? (?:on|than|in)(?: on)?(?: the)? (?:left|right)\b",
    r"\b(?:left|right) (?:side )?(?:(?:greater|larger|more|worse|less|"
    r"smaller)(?: \w+)? than)(?: the)? (?:left|right)\b",
    "[左右](?:心[房室缘]|[房室](?!肺)|主支气管|心(?=影|界|耳)|前斜|侧位)",
    "[向偏往][左右]侧?|[左右](?=[移偏])|[左右]侧?[肺胸]?(?:为著|为甚|为重|为主|较著|较重|较多)|"
    "左右(?![侧两双肺胸])",
)
"""Words of side that name anatomy, a direction or a comparison of sides, and not the side of a finding."""

DIAPHRAGM = words(r"\b(?:left|right)[- ](?:hemi-?)?diaph\w*", "[左右]侧?膈")
"""A half of the diaphragm; its side is that of its own findings and of nothing else."""

HILUM = words(r"\b(?:left|right)[- ]hil\w*", "[左右]肺门")
"""A hilum's side is the side of what can lie in it, a nodule, mass, consolidation or pneumonia, and of nothing else."""

ADJACENT = words(
    r"\b(?:adjacent|associated|compressive|overlying|underlying|ipsilateral|accompanying)\b",
    "相应|同侧|邻近|伴[有随]?",
)
"""Words that put a finding where the one named before it lies."""

ANATOMY = {
    "clavicle": words(r"clavic\w+", "锁骨"),
    "shoulder": words(r"shoulders?|humer\w+|scapul\w+|glenohumeral", "肩|肱骨"),
    "breast": words(r"breasts?|mastectom\w+|nipples?", "乳"),
    "axilla": words(r"axill\w+", "腋"),
    "diaphragm": words(r"(?:hemi-?)?diaphragms?", "膈(?=[肌面顶]|下)"),
    "costophrenic angle": words(r"costophrenic", "肋膈[角窦]"),
    "hilum": words(r"hil(?:um|ar|us)", "肺门"),
    "rib": words(r"ribs?", "肋骨|第[^。；，]{1,4}[前后]?肋"),
    "lung apex": words(r"apex|apical", "肺尖"),
    "lung base": words(r"(?:lung )?base|basilar|basal", "肺底"),
}
"""Paired structures by name; the side stands before them."""

ADVICE = words(
    r"\b(?:advis|refer(?:ral|red)?\b|recommend|consider\b|follow-?ups?\b|follow up|further|correlat|warrant|"
    r"evaluat|obtain|need|requir)",
    r"\b(?:suggest (?:CT|follow|further|clinical|correlat|repeat|short|interval)|(?:is|are|CT|MRI?|"
    r"follow-?up) suggested)",
    r"\b(?:may|could) be\b|\b(?:repeat|short[- ]interval)\b",
    "建议|进一步|随[访诊]|必要时|结合|请|定期|后复[查诊]|短期",
)
"""Words of advice: what such a sentence says is not claimed."""
