"""What our Storage SCP answers to the presentation contexts of an association request (PS3.8 section 9.3.3.2)."""

from pipeline.archive.dimse.pdu import PresentationContext
from pipeline.archive.part10 import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

PLAIN_SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
TRANSFER_SYNTAXES = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.57",  # JPEG lossless, process 14
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # big endian
    "1.2.840.10008.1.2.4.201",  # high-throughput JPEG 2000 lossless
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.1.98",  # encapsulated uncompressed
    "1.2.840.10008.1.2.8.1",  # deflated image frame
    "1.2.840.10008.1.2.4.110",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.111",  # JPEG recompressed as JPEG XL
    "1.2.840.10008.1.2.4.112",  # JPEG XL
)
"""Those that we can decode, the plain ones first."""
VIDEO_SYNTAXES = tuple(
    f"1.2.840.10008.1.2.4.{number}{part}"
    for number in range(100, 109)
    for part in ("", ".1")
    if not (part and number > 106)
)
"""MPEG-2, H.264 and HEVC, all but HEVC also fragmentable (PS3.6 table A-1): asked for where a class may hold them."""

VERIFICATION = "1.2.840.10008.1.1"
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_ABSTRACT_SYNTAX_UNSUPPORTED = 3
_TRANSFER_SYNTAXES_UNSUPPORTED = 4


def answered(proposed: PresentationContext) -> PresentationContext:
    """The proposed context with the transfer syntax that we take, or why none (PS3.8 table 9-18).

    That is the sender's first one that we can decode; where it offers none of those its first one, so that nothing
    that it can send in no other way is turned away. Every storage SOP class is taken, private ones too.
    """
    syntaxes = proposed.transfer_syntaxes
    if proposed.abstract_syntax == VERIFICATION:
        wanted = [syntax for syntax in syntaxes if syntax in PLAIN_SYNTAXES]
    elif _is_storage(proposed.abstract_syntax):
        wanted = [syntax for syntax in syntaxes if syntax in TRANSFER_SYNTAXES] or list(syntaxes)
    else:
        return PresentationContext(
            proposed.context_id, proposed.abstract_syntax, syntaxes[:1], _ABSTRACT_SYNTAX_UNSUPPORTED
        )
    if not wanted:
        return PresentationContext(
            proposed.context_id, proposed.abstract_syntax, syntaxes[:1], _TRANSFER_SYNTAXES_UNSUPPORTED
        )
    return PresentationContext(proposed.context_id, proposed.abstract_syntax, (wanted[0],))


def _is_storage(abstract_syntax: str) -> bool:
    return abstract_syntax.startswith(_STORAGE_ROOT) or not abstract_syntax.startswith(_DICOM_ROOT)
