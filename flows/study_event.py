"""The event that says a pushed study is complete; it names the ledger row and nothing else."""

EVENT = "firstread.study.complete"
_RESOURCE = "firstread.study."


def emit(ledger: int) -> None:
    """Send the event for a ledger row to the site's Prefect API (``environment.prefect_api`` before this)."""
    from prefect.events import emit_event  # a listener without a Prefect API needs none of it

    emit_event(event=EVENT, resource={"prefect.resource.id": resource_id(ledger)})


def resource_id(ledger_id: int) -> str:
    """The Prefect resource id of a ledger row."""
    return f"{_RESOURCE}{ledger_id}"


def ledger_id(resource: str) -> int:
    """The ledger row that a resource id names. Raises ValueError for another resource."""
    return int(resource.removeprefix(_RESOURCE))
