"""`talowa trace` and `talowa ledger`: where one message is and how it got there, and how it stands with all."""

import datetime
from typing import Final
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.wire.traces import LedgerSums, MessageTrace, Recipient
from services.local.operators import call
from services.local.state import State

# With what stands above and below, one screen.
_PEOPLE: Final = 12
# What matters comes first.
_ORDER: Final = ("unaccounted", "due", "expired", "refused", "delivered")

_trace: Final = msgspec.json.Decoder(MessageTrace)
_sums: Final = msgspec.json.Decoder(LedgerSums)


async def show_message(state: State, admin_token: str, message_id: str, console: Console) -> bool:
    """Print where a message is; whether it is accounted for. Raises `CannotOperate`."""
    trace = _trace.decode(await call(state, admin_token, "GET", f"/ledger/{quote(message_id, safe='')}"))
    about = ", ".join(
        filter(None, (trace.type, "anonymous" if trace.is_anonymous else None, trace.state.replace("_", " ")))
    )
    console.print(Text(f"{trace.conversation_id}  seq {trace.seq}  ({about})"))
    console.print(_stations(trace) if trace.stations else Text("no times: the ledger does not go back so far"))
    counts = trace.recipients
    console.print(
        Text(
            f"for {counts.total}: delivered {counts.delivered}, due {counts.due}, expired {counts.expired}, "
            f"refused {counts.refused}, unaccounted {counts.unaccounted}"
        )
    )
    if trace.people:
        console.print(_people(trace))
    return trace.state != "unaccounted"


async def show_sums(state: State, admin_token: str, console: Console) -> bool:
    """Print how it stands with all messages; whether they are accounted for. Raises `CannotOperate`."""
    sums = _sums.decode(await call(state, admin_token, "GET", "/ledger"))
    since = f"since {_time(sums.since)}" if sums.since else "the ledger is empty"
    console.print(
        Text(
            f"{since}\n"
            f"messages: accepted {sums.accepted}: saved {sums.saved}, in flight {sums.in_flight}, "
            f"unaccounted {sums.unaccounted}; abandoned {sums.abandoned}\n"
            f"recipients {sums.recipients}: delivered {sums.delivered}, due {sums.due}, expired {sums.expired}, "
            f"refused {sums.refused}"
        )
    )
    return sums.unaccounted == 0


def _stations(trace: MessageTrace) -> Table:
    table = Table("station", "at", "ms")
    for station in trace.stations:
        through = f" ({trace.gateway})" if station.station == "take" and trace.gateway else ""
        table.add_row(f"{station.station}{through}", _time(station.at), f"+{station.after_ms}")
    return table


def _people(trace: MessageTrace) -> Table:
    table = Table("recipient", "state", "confirmed", "ms", "through")
    began = trace.stations[0].at if trace.stations else None
    shown = sorted(trace.people, key=lambda one: (_ORDER.index(one.state), one.user_id))
    for one in shown[:_PEOPLE]:
        table.add_row(*_person(one, began))
    left = trace.recipients.total - len(shown[:_PEOPLE])
    if left > 0:
        table.add_row(f"… {left} more", "", "", "", "")
    return table


def _person(one: Recipient, began: int | None) -> tuple[str, ...]:
    state = f"{one.state} ({one.reason})" if one.reason else one.state
    if one.confirmed_at is None:
        return one.user_id, state, "", "", ""
    after = f"+{one.confirmed_at - began}" if began is not None else ""
    return one.user_id, state, _time(one.confirmed_at), after, one.gateway or ""


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
