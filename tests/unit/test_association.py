"""The upper layer's bytes: round trips, noise from either side, and a foreign implementation."""

import socket
import threading
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_RQ

from pipeline.archive.dimse import pdu
from pipeline.archive.dimse.association import Association
from pipeline.archive.dimse.command import (
    C_ECHO_RQ,
    C_MOVE_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    Command,
    Counts,
    decode_command,
    decode_identifier,
    encode_identifier,
)
from pipeline.archive.dimse.failures import rejected
from pipeline.archive.dimse.negotiation import VERIFICATION
from pipeline.archive.dimse.pdu import Associate, PresentationContext, Rejection
from pipeline.archive.part10 import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.errors import FirstreadError, RetryLater, StopRun
from tests.servers import LOOPBACK

PLAIN = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
uids = st.lists(st.integers(0, 9999), min_size=2, max_size=8).map(lambda parts: ".".join(map(str, parts)))
titles = st.text("ABCDEFGHIJ_1234567890", min_size=1, max_size=16)
contexts = st.lists(st.tuples(uids, st.lists(uids, min_size=1, max_size=5)), min_size=1, max_size=128)


@settings(deadline=None)
@given(titles, titles, contexts, st.lists(uids, max_size=4), st.integers(0, 2**32 - 1))
def test_requests_come_back_as_they_were(
    called: str, calling: str, proposed: list[tuple[str, list[str]]], roles: list[str], longest: int
) -> None:
    request = Associate(
        called,
        calling,
        tuple(
            PresentationContext(2 * n + 1, abstract, tuple(syntaxes))
            for n, (abstract, syntaxes) in enumerate(proposed)
        ),
        longest,
        tuple(roles),
    )
    encoded = pdu.associate_rq(request)
    assert encoded[0] == pdu.ASSOCIATE_RQ
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    assert pdu.parse_associate(encoded[6:]) == request


def test_pynetdicom_reads_our_request() -> None:
    request = Associate(
        "CALLED", "CALLING", (PresentationContext(1, VERIFICATION, PLAIN),), 4096, (VERIFICATION,)
    )
    parsed = A_ASSOCIATE_RQ()
    parsed.decode(pdu.associate_rq(request))
    assert (parsed.called_ae_title, parsed.calling_ae_title) == ("CALLED", "CALLING")
    (context,) = parsed.presentation_context
    assert context.abstract_syntax == VERIFICATION
    assert tuple(context.transfer_syntax) == PLAIN
    assert parsed.user_information is not None
    assert parsed.user_information.maximum_length == 4096
    (role,) = parsed.user_information.role_selection.values()
    assert (role.scu_role, role.scp_role) == (0, 1)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_no_association(noise: bytes) -> None:
    for body in (noise, bytes(68) + noise):
        try:
            pdu.parse_associate(body)
        except ValueError:
            continue


@settings(deadline=None)
@given(
    st.sampled_from([C_STORE_RQ, C_MOVE_RQ, C_MOVE_RSP, C_ECHO_RQ]),
    uids,
    st.integers(0, 65535),
    st.booleans(),
)
def test_commands_come_back_as_they_were(field: int, uid: str, number: int, follows: bool) -> None:
    if field & 0x8000:
        command = Command(
            field,
            responded_to=number,
            sop_class_uid=uid,
            status=number,
            counts=Counts(1, 2, None, 4),
            has_data_set=follows,
        )
    else:
        command = Command(field, number, sop_class_uid=uid, sop_instance_uid=uid, has_data_set=follows)
    encoded = command.encode()
    assert decode_command(encoded) == command
    theirs = decode(BytesIO(encoded), True, True)
    assert theirs.CommandField == field
    assert theirs.AffectedSOPClassUID == uid
    assert theirs.CommandGroupLength == len(encoded) - 12


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_no_command_and_no_identifier(noise: bytes) -> None:
    for read in (decode_command, lambda encoded: decode_identifier(encoded, EXPLICIT_VR_LITTLE_ENDIAN)):
        try:
            read(noise)
        except ValueError:
            continue


@pytest.mark.parametrize("syntax", PLAIN)
def test_identifiers_are_read_by_pynetdicom(syntax: str) -> None:
    keys = {0x0020000D: ("UI", "1.2.3"), 0x00080052: ("CS", "STUDY"), 0x00100010: ("PN", "")}
    encoded = encode_identifier(keys, syntax)
    theirs = decode(BytesIO(encoded), syntax == IMPLICIT_VR_LITTLE_ENDIAN, True)
    assert (theirs.StudyInstanceUID, theirs.QueryRetrieveLevel, theirs.PatientName) == ("1.2.3", "STUDY", "")
    assert isinstance(theirs, Dataset)
    assert decode_identifier(encoded, syntax)[0x0020000D] == b"1.2.3\0"


@pytest.mark.parametrize(
    ("rejection", "kind"),
    [
        (Rejection(2, 1, 1), RetryLater),
        (Rejection(1, 3, 1), RetryLater),
        (Rejection(1, 1, 7), StopRun),
        (Rejection(1, 1, 3), StopRun),
        (Rejection(1, 1, 1), StopRun),
    ],
)
def test_permanent_rejections_are_not_retried(rejection: Rejection, kind: type[FirstreadError]) -> None:
    assert isinstance(rejected(rejection), kind)


def proposal(*abstract: str) -> Associate:
    return Associate(
        "PEER", "US", tuple(PresentationContext(2 * n + 1, uid, PLAIN) for n, uid in enumerate(abstract))
    )


def test_echo_with_pynetdicom_as_the_peer() -> None:
    ae = AE(ae_title="PEER")
    ae.add_supported_context(VERIFICATION)
    server = ae.start_server(
        (LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0x0000)]
    )
    assert server is not None
    try:
        address = (LOOPBACK, int(server.server_address[1]))
        with Association.request(
            address, proposal(VERIFICATION), connect_timeout=5, stall_timeout=5
        ) as association:
            association.send(
                association.accepted(VERIFICATION), Command(C_ECHO_RQ, 5, sop_class_uid=VERIFICATION)
            )
            message = association.receive()
            assert message is not None
            assert (message.command.status, message.command.responded_to) == (0, 5)
        with (
            pytest.raises(StopRun, match="archive-refused-service"),
            Association.request(
                address, proposal("1.2.3"), connect_timeout=5, stall_timeout=5
            ) as association,
        ):
            association.accepted("1.2.3")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x02\x00\x00\x00\x00\x04abcd",
        b"\x02\x00\xff\xff\xff\xff",
        b"\x09\x00\x00\x00\x00\x00",
        b"\x04\x00\x00\x00\x00\x06" + bytes(6),
        b"\x05\x00\x00\x00\x00\x04" + bytes(4),
        b"\x07\x00\x00\x00\x00\x04" + bytes(4),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["closes", "short", "huge", "unknown", "data", "release", "abort", "http"],
)
def test_a_peer_that_speaks_otherwise_is_retry_later(answer: bytes) -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(RetryLater):
            Association.request(
                (LOOPBACK, listener.getsockname()[1]),
                proposal(VERIFICATION),
                connect_timeout=5,
                stall_timeout=1,
            )
        thread.join()


def test_a_service_that_an_archive_does_not_offer_is_named() -> None:
    ae = AE(ae_title="PEER")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.2.1.1")  # Patient Root Query, and no Study Root
    server = ae.start_server((LOOPBACK, 0), block=False)
    assert server is not None
    study_root = "1.2.840.10008.5.1.4.1.2.2.1"
    try:
        address = (LOOPBACK, int(server.server_address[1]))
        asked = Association.request(address, proposal(study_root), connect_timeout=5, stall_timeout=5)
        with (
            asked,
            pytest.raises(
                StopRun, match=r"Study Root Query \(C-FIND\) was not accepted, nor its Patient Root: let the"
            ),
        ):
            asked.accepted(study_root)
    finally:
        server.shutdown()
        server.server_close()
