"""A query as it is asked, and its shape: what an index must be made for. Pure."""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "contains any"]
Condition = tuple[str, Operator, Any]
_EQUAL: Final = ("==", "in")
_CONTAINS: Final = ("contains", "contains any")


class Shape(Struct, frozen=True, order=True):
    """What two queries have in common that one index serves."""

    collection: str
    equal: tuple[str, ...]  # in any order
    contains: tuple[str, ...]
    order: tuple[str, ...]  # `-field` where it goes down

    @property
    def is_simple(self) -> bool:
        """Whether Firestore serves it by the indexes that every field has, joined where need be."""
        fields = len(self.contains) + len(self.order)
        return fields == 0 or (fields == 1 and not self.equal)


class Query(Struct, frozen=True, kw_only=True):
    """Documents of one collection: `where` they are so, in an order, after a point in it, up to a limit."""

    collection: str
    where: tuple[Condition, ...] = ()
    order: tuple[str, ...] = ()  # `-field`: downwards
    after: tuple[Any, ...] | None = None  # values of the fields in `order`
    limit: int | None = None
    only: tuple[str, ...] = ()  # fields, all if empty

    @property
    def shape(self) -> Shape:
        """Inequalities without an order go upwards, as Firestore has it."""
        equal = sorted({field for field, how, _ in self.where if how in _EQUAL})
        contains = tuple(field for field, how, _ in self.where if how in _CONTAINS)
        ordered = [field.removeprefix("-") for field in self.order]
        unequal = [field for field, how, _ in self.where if how not in (*_EQUAL, *_CONTAINS) and field not in ordered]
        return Shape(self.collection, tuple(equal), contains, (*self.order, *dict.fromkeys(unequal)))

    def from_(self, after: tuple[Any, ...]) -> "Query":
        """The same, after a later point."""
        return msgspec.structs.replace(self, after=after)
