"""Which of many planes or frames are shown where not all are."""


def evenly(count: int, most: int) -> tuple[int, ...]:
    """At most ``most`` of ``count`` places, ascending: the first and the last too where ``most`` is above one."""
    if count <= most:
        return tuple(range(count))
    return (
        (count // 2,)
        if most == 1
        else tuple(round(place * (count - 1) / (most - 1)) for place in range(most))
    )
