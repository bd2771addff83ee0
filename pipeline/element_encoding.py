"""How the elements of a data set are written (PS3.5 section 7): what every walk over them has to know."""

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Value representations with 16 bits of length where they are explicit (PS3.5 section 7.1.2)."""
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Those with 32 bits of length."""
UNDEFINED = 0xFFFFFFFF
"""The length of what a delimiter ends."""
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
