"""The jobs that compare a dojo's state with the database; see statsd/boards/check.py."""

from typing import ClassVar

from statsd.calculators import Input
from statsd.job import Job, Priority, register_kind

DEPENDS_ON = Input.STRUCTURE


class DojoCheck(Job, frozen=True):
    """Compare a dojo's structure and memberships with those that its state was built from."""

    kind: ClassVar[str] = "dojo_check"
    dojo_id: int


class RecordsCheck(Job, frozen=True):
    """Compare the records of a dojo's users, from one id on, with the database."""

    kind: ClassVar[str] = "records_check"
    priority: ClassVar[Priority] = Priority.ORDINARY
    dojo_id: int
    first: int
    """The id of the first user."""


register_kind(DojoCheck)
register_kind(RecordsCheck)
