#!/usr/bin/env bash
# A C-MOVE destination that is known, and is down or refuses, is told as "destination unknown" by pynetdicom.
#
# Version: pynetdicom 3.0.4 (its Storage and Query/Retrieve application `qrscp` answers by the same code).
# Expected: 0xA801 "Refused: Move Destination unknown" where the SCP knows no such AE title alone (PS3.4 section
#   C.4.2.1.5, table C.4-2); where it knows the title and gets no association, 0xA702 "Unable to perform
#   sub-operations", so that who asks looks at the destination and not at the SCP's table of peers.
# Seen: the handler gives the address of the destination, nobody listens there or its acceptor refuses our calling
#   AE title, and the answer is 0xA801 both times, as for a title that the handler does not know.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check pynetdicom==3.0.4 pydicom==3.0.2
timeout 60 v/bin/python - <<'PY'
import socket

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MOVE

LOOPBACK = "127.0.0.1"


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


destination, own = free_port(), free_port()


def moved(event):
    known = event.move_destination == "KNOWN"
    yield (LOOPBACK, destination) if known else (None, None)
    if known:
        instance = Dataset()
        instance.SOPClassUID, instance.SOPInstanceUID = CTImageStorage, generate_uid()
        yield 1
        yield 0xFF00, instance


scp = AE("QR")
scp.add_supported_context(MOVE)
scp.add_requested_context(CTImageStorage)
server = scp.start_server((LOOPBACK, own), block=False, evt_handlers=[(evt.EVT_C_MOVE, moved)])


def status(title):
    scu = AE("ASKS")
    scu.add_requested_context(MOVE)
    association = scu.associate(LOOPBACK, own)
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", "1.2.3"
    *_, (last, _) = association.send_c_move(wanted, title, MOVE)
    association.release()
    return last.Status


seen = [status("NOBODY"), status("KNOWN")]
print(f"a title that is not known: {seen[0]:#06x}")
print(f"known, nobody listens: {seen[1]:#06x}")
acceptor = AE("KNOWN")
acceptor.add_supported_context(CTImageStorage)
acceptor.require_calling_aet = ["SOMEONE"]
refusing = acceptor.start_server((LOOPBACK, destination), block=False)
seen.append(status("KNOWN"))
print(f"known, it refuses our calling title: {seen[2]:#06x}")
refusing.shutdown()
server.shutdown()
assert seen == [0xA801] * 3
PY
