"""Frames of an instance that lie in more than one dimension: of nuclear medicine, and of ultrasound volumes.

A gated heart has every plane at every time of the beat; frames evenly taken from the whole of it would leap from plane
to plane. So frames are taken as sets that run along one dimension, and each is named by its place in the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from pipeline.images.headers import Elements, items, numbers, text, values
from pipeline.images.sampling import evenly

VECTORS = {
    0x00540010: ("EnergyWindowVector", "energy window"),
    0x00540020: ("DetectorVector", "detector"),
    0x00540030: ("PhaseVector", "phase"),
    0x00540050: ("RotationVector", "rotation"),
    0x00540060: ("RRIntervalVector", "RR interval"),
    0x00540070: ("TimeSlotVector", "time slot"),
    0x00540080: ("SliceVector", "slice"),
    0x00540090: ("AngularViewVector", "angular view"),
    0x00540100: ("TimeSliceVector", "time slice"),
}
"""What Frame Increment Pointer may name (PS3.3 C.8.4.8.1.1), the slowest first and the last running quickest."""
LEAST_OF_A_SET = 8
"""Frames that a set is shown by, at least, where it has so many: rather fewer sets than some that nobody can follow."""
_ULTRASOUND_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
_TISSUE = "TISSUE_INTENSITY"
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrameSets:
    """By frame its place in each dimension of ``names``, counted from 1; the last one runs along a set.

    ``names`` is empty where frames lie in one dimension. ``hidden`` are frames that are no picture by themselves.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    hidden: frozenset[int] = frozenset()

    def set_of(self, frame: int) -> Place:
        """What frames of one set have in common."""
        return self.places[frame][:-1] if self.names else ()

    @property
    def apart(self) -> tuple[str, ...]:
        """The names of the dimensions that tell sets apart."""
        told = (len({one[place] for one in self.places}) > 1 for place in range(len(self.names) - 1))
        return tuple(name for name, differs in zip(self.names, told, strict=False) if differs)

    def words(self, frame: int) -> str:
        """ ", energy window 1 of 2, detector 2 of 2": of the dimensions in which frames differ."""
        if not self.names:
            return ""
        many = [max(one[place] for one in self.places) for place in range(len(self.names))]
        return "".join(
            f", {name} {self.places[frame][place]} of {many[place]}"
            for place, name in enumerate(self.names)
            if many[place] > 1
        )


def frame_sets(dataset: Elements, frames: int) -> FrameSets:
    """How the ``frames`` of an instance lie; one dimension where the header does not say, or says what cannot be."""
    if text(dataset, "SOPClassUID") == _ULTRASOUND_VOLUME:
        return _of_ultrasound(items(dataset, "PerFrameFunctionalGroupsSequence"), frames)
    found = []
    for tag in values(dataset, "FrameIncrementPointer"):
        keyword, name = VECTORS.get(int(tag) if isinstance(tag, int) else 0, ("", ""))
        vector = tuple(int(one) for one in numbers(dataset, keyword)) if keyword else ()
        if vector and (len(vector) != frames or min(vector) < 1):
            return FrameSets((), ())
        if vector:
            found.append((name, vector))
    if not found:
        return FrameSets((), ())
    return FrameSets(tuple(name for name, _ in found), tuple(zip(*(one for _, one in found), strict=True)))


def chosen_frames(sets: FrameSets, frames: int, room: int) -> tuple[tuple[int, ...], int, int]:
    """At most ``room`` of the frames, ascending; how many sets they are of, and of how many."""
    by_set: dict[Place, list[int]] = {}
    for frame in range(frames):
        if frame not in sets.hidden:
            by_set.setdefault(sets.set_of(frame), []).append(frame)
    shown = sum(map(len, by_set.values()))
    if shown <= room:
        return tuple(frame for frame in range(frames) if frame not in sets.hidden), len(by_set), len(by_set)
    longest = max(map(len, by_set.values()))
    taken = evenly(len(by_set), max(1, room // min(LEAST_OF_A_SET, longest)))
    whole = [list(by_set.values())[place] for place in taken]
    chosen: list[int] = []
    for place, one in enumerate(whole):
        share = -(-(room - len(chosen)) // (len(whole) - place))
        chosen += (one[index] for index in evenly(len(one), share))
    return tuple(sorted(chosen)), len(whole), len(by_set)


def _of_ultrasound(groups: Sequence[Dataset], frames: int) -> FrameSets:
    """Planes of one moment are a set; flow and elasticity lie over the tissue and are no picture by themselves
    (Data Type, PS3.3 C.8.24.5.4).
    """
    if len(groups) != frames:
        return FrameSets((), ())
    types = [_first(group, "ImageDataTypeSequence", "DataType").upper() for group in groups]
    hidden = {number for number, one in enumerate(types) if one and one != _TISSUE}
    hidden = hidden if len(hidden) < frames else set()
    moments = [_first(group, "FrameContentSequence", "TemporalPositionIndex") for group in groups]
    order = {one: place for place, one in enumerate(dict.fromkeys(moments), 1)}
    counted: dict[tuple[str, str], int] = {}
    places: list[Place] = []
    for moment, kind in zip(moments, types, strict=True):
        counted[moment, kind] = counted.get((moment, kind), 0) + 1
        places.append((order[moment], counted[moment, kind]))
    return FrameSets(("moment", "plane"), tuple(places), frozenset(hidden))


def _first(group: Dataset, sequence: str, keyword: str) -> str:
    return next((text(item, keyword) for item in items(group, sequence)), "")
