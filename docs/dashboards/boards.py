"""The seven dashboards. A panel's title is a question; what it shows answers it, and `good` says how it should look.

Over 400 lines: it is a list, and read as one.
"""

from typing import Final

from docs.dashboards.board import Board, Panel, highest, quantile, rate, total

_STATIONS: Final = "talowa_router_station_seconds"
# Dollars for a document, as Google charges in most regions: docs/firestore.md.
_READ_USD, _WRITE_USD, _DELETE_USD = "0.0000006", "0.0000018", "0.0000002"
_DOCUMENTS: Final = ("talowa_router_store_documents_total", "talowa_presence_store_documents_total")
_PROMISE_S: Final = 2
_GATEWAY: Final = 'job="gateway"'
_SENT: Final = 'outcome="sent"'
_LOCUST: Final = "locust_response_seconds"


def _dollars_a_second(series: str) -> str:
    prices = {"read": _READ_USD, "written": _WRITE_USD, "deleted": _DELETE_USD}
    return " + ".join(f"{price} * {_or_none(series, how)}" for how, price in prices.items())


def _or_none(series: str, how: str) -> str:
    where = f'how="{how}"'
    return f"({rate(series, where=where)} or vector(0))"


CLUSTER: Final = Board(
    "cluster",
    "Cluster at a glance",
    "Is everybody served, and is anything about to break?",
    (
        Panel(
            question="How many people are here?",
            answers={"signed in": total("talowa_gateway_sessions"), "connected": total("talowa_gateway_connections")},
            good="The two lie on each other: who connects signs in.",
            main=True,
        ),
        Panel(
            question="How many messages a second come, are taken, and go out?",
            answers={
                "come": rate("talowa_gateway_events_total", where='event="send_message"'),
                "taken": rate("talowa_router_messages_total", where='outcome=~"sent|queued"'),
                "go out": rate("talowa_gateway_messages_sent_total"),
            },
            good="What comes is taken; what goes out is more, by the size of groups.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="Is a message lost?",
            answers={"unaccounted for": total("talowa_unaccounted_messages")},
            good="0. Anything else is a mistake of ours.",
            kind="number",
            fires_above=0,
        ),
        Panel(
            question="Is the store away?",
            answers={"away": highest("talowa_router_store_away")},
            good="No. While it is, messages are answered `queued`.",
            unit="bool",
            kind="number",
            fires_above=0,
        ),
        Panel(
            question="How late are messages?",
            answers={
                "half are said within": quantile(0.5, _STATIONS, where='station="publish"'),
                "99 of 100 are said within": quantile(0.99, _STATIONS, where='station="publish"'),
                "99 of 100 canaries are back within": quantile(0.99, "talowa_gateway_canary_seconds"),
            },
            good="About 0.1 s under load; the app promises 2.",
            unit="s",
            fires_above=_PROMISE_S,
            main=True,
        ),
        Panel(
            question="Does every path answer?",
            answers={"{{instance}} has heard nothing for": highest("talowa_gateway_canary_silent_seconds", "instance")},
            good="Under CANARY_S (5 s) on every gateway.",
            unit="s",
            fires_above=15,
            main=True,
        ),
        Panel(
            question="Are routers behind?",
            answers={
                "entries not acknowledged": total("talowa_router_lag_entries"),
                "parked for the store": total("talowa_router_parked_frames"),
            },
            good="Tens under load; nothing parked.",
        ),
        Panel(
            question="What is refused, and why?",
            answers={
                "gateways: {{code}}": rate("talowa_gateway_refusals_total", "code"),
                "routers: {{code}}": rate("talowa_router_refusals_total", "code"),
            },
            good="Little. `unavailable` and `overloaded` are ours, all else is the clients'.",
            unit="ops",
        ),
        Panel(
            question="How do sign-ins end?",
            answers={"{{result}}": rate("talowa_gateway_sign_ins_total", "result")},
            good="Nearly all are `ok`.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How much of the broker's memory is used?",
            answers={
                "{{node}} used": f"{highest('talowa_redis_memory_bytes', 'node')}"
                f" / ({highest('talowa_redis_memory_max_bytes', 'node')} > 0)"
            },
            good="Under 80 %. When it is full, nothing is taken any more.",
            unit="percentunit",
            fires_above=0.8,
        ),
        Panel(
            question="Who uses the CPU?",
            answers={"{{job}}": rate("process_cpu_seconds_total", "job")},
            good="In cores. A process has one: add processes before it is full.",
            main=True,
        ),
        Panel(
            question="Who uses memory?",
            answers={"{{job}}": total("process_resident_memory_bytes", "job")},
            good="Gateways by the number of sockets, routers flat.",
            unit="bytes",
        ),
        Panel(
            question="Does a log tell of mistakes?",
            answers={"{{job}}": rate("talowa_log_errors_total", "job")},
            good="Nothing.",
            unit="ops",
        ),
    ),
)

MESSAGE: Final = Board(
    "message",
    "A message's way",
    "Where does a message spend its time, and does what goes in come out? Stations: docs/life-of-a-message.md.",
    (
        Panel(
            question="When is half of all messages at each station?",
            answers={
                "{{station}}": quantile(0.5, _STATIONS, "station"),
                "downlink, from publish": quantile(0.5, "talowa_gateway_downlink_seconds"),
                "there and back (canary)": quantile(0.5, "talowa_gateway_canary_seconds"),
            },
            good="read, save and publish follow each other within tens of milliseconds.",
            unit="s",
            main=True,
        ),
        Panel(
            question="When are 99 of 100 there?",
            answers={
                "{{station}}": quantile(0.99, _STATIONS, "station"),
                "downlink, from publish": quantile(0.99, "talowa_gateway_downlink_seconds"),
                "there and back (canary)": quantile(0.99, "talowa_gateway_canary_seconds"),
            },
            good="Under 2 s all together.",
            unit="s",
            fires_above=_PROMISE_S,
            main=True,
        ),
        Panel(
            question="Which stage holds a batch up?",
            answers={"{{stage}}": quantile(0.99, "talowa_router_stage_seconds", "stage")},
            good="save is the longest: the disk, or Google.",
            unit="s",
            main=True,
        ),
        Panel(
            question="How many frames travel together?",
            answers={
                "half have at most": quantile(0.5, "talowa_router_batch_frames"),
                "99 of 100 at most": quantile(0.99, "talowa_router_batch_frames"),
            },
            good="More with the load: that is what makes it cheaper.",
        ),
        Panel(
            question="How long does a gateway's write to the streams take?",
            answers={
                "half": quantile(0.5, "talowa_gateway_uplink_seconds"),
                "99 of 100": quantile(0.99, "talowa_gateway_uplink_seconds"),
            },
            good="A millisecond or few.",
            unit="s",
        ),
        Panel(
            question="How soon do phones confirm?",
            answers={
                "half within": quantile(0.5, "talowa_gateway_confirm_seconds"),
                "90 of 100 within": quantile(0.9, "talowa_gateway_confirm_seconds"),
                "99 of 100 within": quantile(0.99, "talowa_gateway_confirm_seconds"),
            },
            good="As their networks are: a second and more on 2G.",
            unit="s",
            main=True,
        ),
        Panel(
            question="Do frames that gateways write reach routers?",
            answers={
                "written": f"{rate('talowa_gateway_published_frames_total')}"
                f" + {rate('talowa_router_forwarded_frames_total')}",
                "read": rate("talowa_router_frames_total"),
            },
            good="Alike.",
            unit="ops",
        ),
        Panel(
            question="Does what routers say reach gateways?",
            answers={
                "said": f"{rate('talowa_router_downlink_frames_total')}"
                f" + {rate('talowa_presence_published_frames_total')}",
                "heard": rate("talowa_gateway_downlink_frames_total"),
            },
            good="Alike.",
            unit="ops",
        ),
        Panel(
            question="Do phones acknowledge what they are sent?",
            answers={
                "sent": rate("talowa_gateway_messages_sent_total"),
                "acknowledged": rate("talowa_gateway_messages_acknowledged_total"),
                "confirmed to routers": rate("talowa_router_confirmed_total"),
            },
            good="Alike, but for phones that go away in between.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="What becomes of messages?",
            answers={"{{outcome}}": rate("talowa_router_messages_total", "outcome")},
            good="sent; some repeats, as phones try again.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="Does the ledger agree with the store?",
            answers={
                "unaccounted for": total("talowa_unaccounted_messages"),
                "abandoned": total("talowa_abandoned_messages"),
                "in flight": total("talowa_in_flight_messages"),
            },
            good="Only some in flight.",
        ),
        Panel(
            question="How far behind is the audit?",
            answers={"seconds": highest("talowa_audit_behind_seconds")},
            good="Near 0; it grows while the store is away.",
            unit="s",
        ),
    ),
)

GATEWAYS: Final = Board(
    "gateways",
    "Gateways",
    "Who holds whom, how full are they, and what do clients do to them?",
    (
        Panel(
            question="How many sockets does each hold?",
            answers={"{{instance}}": total("talowa_gateway_connections", "instance")},
            good="Within a tenth of each other; else `talowa rebalance`.",
            main=True,
        ),
        Panel(
            question="How full is each?",
            answers={
                "{{instance}}": f"{total('talowa_gateway_connections', 'instance')}"
                f" / {total('talowa_gateway_connections_max', 'instance')}"
            },
            good="Under 80 %.",
            unit="percentunit",
            fires_above=0.8,
        ),
        Panel(
            question="What does a socket cost in memory, all in all?",
            answers={
                "{{instance}}": f"{total('process_resident_memory_bytes', 'instance', where=_GATEWAY)}"
                f" / ({total('talowa_gateway_connections', 'instance')} > 0)"
            },
            good="5 KB and its share of the 60 MB that a gateway takes empty.",
            unit="bytes",
        ),
        Panel(
            question="How much CPU does each use?",
            answers={"{{instance}}": rate("process_cpu_seconds_total", "instance", where=_GATEWAY)},
            good="Under 0.7 of a core.",
            main=True,
        ),
        Panel(
            question="How many sign in a second, and how does it end?",
            answers={"{{result}}": rate("talowa_gateway_sign_ins_total", "result")},
            good="ok.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How long does a sign-in take?",
            answers={
                "half": quantile(0.5, "talowa_gateway_sign_in_seconds"),
                "99 of 100": quantile(0.99, "talowa_gateway_sign_in_seconds"),
            },
            good="Tens of milliseconds; seconds when thousands come at once.",
            unit="s",
            main=True,
        ),
        Panel(
            question="What do clients ask?",
            answers={"{{event}}": rate("talowa_gateway_events_total", "event")},
            good="`unknown` is an app that is newer than the cluster, or none of ours.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="What do gateways refuse?",
            answers={"{{code}}": rate("talowa_gateway_refusals_total", "code")},
            good="Little.",
            unit="ops",
        ),
        Panel(
            question="How much waits for phones that do not read?",
            answers={"{{instance}}": total("talowa_gateway_outbox_bytes", "instance")},
            good="Kilobytes. A phone has OUTBOX_MAX_BYTES at most.",
            unit="bytes",
            main=True,
        ),
        Panel(
            question="Who is closed for not reading, and who for keeping us waiting?",
            answers={
                "does not read": rate("talowa_gateway_outbox_overflows_total"),
                "HTTP: {{why}}": rate("talowa_gateway_http_closed_total", "why"),
            },
            good="Few. `crowd` is an address with too many idle connections.",
            unit="ops",
        ),
        Panel(
            question="Is what is due stuck?",
            answers={"{{instance}}": total("talowa_gateway_stuck_sessions", "instance")},
            good="Few: phones that went without a word.",
        ),
        Panel(
            question="Do frames wait for the broker?",
            answers={"{{instance}}": total("talowa_gateway_uplink_frames", "instance")},
            good="Tens. UPLINK_MAX_FRAMES, and clients are refused.",
        ),
        Panel(
            question="Who is sent elsewhere?",
            answers={"{{why}}": rate("talowa_gateway_sent_back_total", "why")},
            good="While gateways leave or are evened out.",
            unit="ops",
        ),
        Panel(
            question="What reaches a gateway that does not hold it?",
            answers={
                "{{kind}}": rate("talowa_gateway_relayed_total", "kind"),
                "sockets that pass through": total("talowa_gateway_bridges"),
            },
            good="With clients that begin by polling; no `unreachable`.",
        ),
        Panel(
            question="Was a gateway taken for dead, or told by a router that had lost its partition?",
            answers={
                "revived": rate("talowa_gateway_revivals_total", "instance"),
                "fenced": rate("talowa_gateway_fenced_sections_total", "instance"),
            },
            good="No.",
            unit="ops",
        ),
        Panel(
            question="How old are Google's certificates?",
            answers={"{{instance}}": highest("talowa_gateway_certificates_age_seconds", "instance")},
            good="Hours: they are fetched ahead of their end. 0 without Firebase.",
            unit="s",
            fires_above=86_400,
        ),
    ),
)

ROUTERS: Final = Board(
    "routers",
    "Routers and streams",
    "Who owns what, how far behind is it, and what does the broker say?",
    (
        Panel(
            question="Who owns how many partitions?",
            answers={"{{instance}}": total("talowa_router_partitions_owned", "instance")},
            good="All together PARTITIONS and the one of broadcasts, shared out evenly.",
            main=True,
        ),
        Panel(
            question="How much is not acknowledged, by partition?",
            answers={"{{partition}}": total("talowa_router_lag_entries", "partition")},
            good="A few entries.",
            main=True,
        ),
        Panel(
            question="How long has the oldest waited, by partition?",
            answers={"{{partition}}": highest("talowa_gateway_partition_lag_seconds", "partition")},
            good="At most a second, which is none; OVERLOAD_LAG_S, and clients are refused.",
            unit="s",
            fires_above=5,
            main=True,
        ),
        Panel(
            question="Are leases lost?",
            answers={"{{instance}}": rate("talowa_router_leases_lost_total", "instance")},
            good="Never, but when routers come and go.",
            unit="ops",
        ),
        Panel(
            question="What do routers read?",
            answers={"{{kind}}": rate("talowa_router_frames_total", "kind")},
            good="send, confirm, confirms most of all.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How much CPU does each use?",
            answers={"{{instance}}": rate("process_cpu_seconds_total", "instance", where='job="router"')},
            good="Under 0.7 of a core.",
            main=True,
        ),
        Panel(
            question="What do calls to the store take?",
            answers={"{{call}}": quantile(0.99, "talowa_router_store_seconds", "call")},
            good="Milliseconds with SQLite, tens with Firestore.",
            unit="s",
            main=True,
        ),
        Panel(
            question="Does the store fail?",
            answers={
                "{{call}}": rate("talowa_router_store_errors_total", "call"),
                "parked frames": total("talowa_router_parked_frames"),
            },
            good="No.",
        ),
        Panel(
            question="How many receipts are not in the store yet?",
            answers={"{{instance}}": total("talowa_router_receipts_unsaved", "instance")},
            good="As many as come in RECEIPT_GATHER_S.",
        ),
        Panel(
            question="How long does a search take?",
            answers={"99 of 100": quantile(0.99, "talowa_router_search_seconds")},
            good="Under a second.",
            unit="s",
        ),
        Panel(
            question="What is said to gateways that are gone?",
            answers={"{{instance}}": rate("talowa_router_undelivered_flushes_total", "instance")},
            good="For seconds after a gateway died.",
            unit="ops",
        ),
        Panel(
            question="What is the broker asked?",
            answers={"{{job}}: {{command}}": f"topk(10, {rate('talowa_redis_commands_total', 'job', 'command')})"},
            good="Fewer than messages, under load: many go in one.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How long does the broker take?",
            answers={"{{job}}": quantile(0.99, "talowa_redis_seconds", "job")},
            good="99 of 100 round trips within a few milliseconds.",
            unit="s",
        ),
        Panel(
            question="What does the broker refuse?",
            answers={"{{job}}: {{error}}": rate("talowa_redis_errors_total", "job", "error")},
            good="Nothing, but NoScriptError at a start.",
            unit="ops",
        ),
        Panel(
            question="How much memory do the broker's servers use?",
            answers={"{{node}} used": highest("talowa_redis_memory_bytes", "node")},
            good="Flat: what is done is trimmed.",
            unit="bytes",
        ),
        Panel(
            question="Does the broker keep what it takes?",
            answers={
                "{{node}} has a file": highest("talowa_redis_persists", "node"),
                "{{node}} writes it": highest("talowa_redis_write_ok", "node"),
                "{{node}} replicas": highest("talowa_redis_replicas", "node"),
            },
            good="1 and 1, and replicas as there should be.",
        ),
    ),
)

PRESENCE: Final = Board(
    "presence",
    "Presence",
    "Who is here, who hears of it, and how soon?",
    (
        Panel(
            question="How many gateways live?",
            answers={"gateways": highest("talowa_presence_gateways")},
            good="As many as were started.",
            main=True,
        ),
        Panel(
            question="Is every shard announced?",
            answers={
                "{{instance}}": total("talowa_presence_shards", "instance"),
                "all": total("talowa_presence_shards"),
            },
            good="8 all together.",
            main=True,
        ),
        Panel(
            question="How late are changes announced?",
            answers={"{{instance}}": highest("talowa_presence_late_seconds", "instance")},
            good="Near 0.",
            unit="s",
            main=True,
        ),
        Panel(
            question="Who comes and goes?",
            answers={"{{status}}": rate("talowa_presence_announced_total", "status")},
            good="As many online as offline, over a day.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How many hear of it?",
            answers={"sent to sockets": rate("talowa_gateway_presence_updates_total")},
            good="Changes times those who watch.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How many people are watched?",
            answers={"{{instance}}": total("talowa_gateway_watched_users", "instance")},
            good="PRESENCE_WATCHES_MAX a socket at most.",
            main=True,
        ),
        Panel(
            question="Were gateways cleared away, and with how many people?",
            answers={
                "gateways": rate("talowa_presence_gateways_reaped_total"),
                "seats": rate("talowa_presence_seats_reaped_total"),
                "downlinks of who did not read": rate("talowa_presence_downlinks_dropped_total"),
            },
            good="Only when one died.",
            unit="ops",
        ),
        Panel(
            question="What is asked of the record of last-seen times?",
            answers={
                "saved": rate("talowa_presence_saved_total"),
                "looked up": rate("talowa_presence_looked_up_total"),
                "away": highest("talowa_presence_store_away"),
            },
            good="Saved as people go; never away.",
        ),
        Panel(
            question="How much CPU does each copy use?",
            answers={"{{instance}}": rate("process_cpu_seconds_total", "instance", where='job="presence"')},
            good="Little.",
        ),
    ),
)

GOOGLE: Final = Board(
    "google",
    "Cost of Google",
    "What does Firestore charge for, for what, and does Firebase answer? Zero with STORE=sqlite, AUTH=local, PUSH=log.",
    (
        Panel(
            question="What does Firestore cost a day, at this rate?",
            answers={
                "routers": f"86400 * ({_dollars_a_second(_DOCUMENTS[0])})",
                "presence": f"86400 * ({_dollars_a_second(_DOCUMENTS[1])})",
            },
            good="In dollars, as docs/firestore.md reckons; storage and network apart.",
            unit="currencyUSD",
            main=True,
        ),
        Panel(
            question="Which documents are charged?",
            answers={
                "routers: {{how}}": rate(_DOCUMENTS[0], "how"),
                "presence: {{how}}": rate(_DOCUMENTS[1], "how"),
            },
            good="Reads follow sign-ins, writes follow messages.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How many documents does a message cost?",
            answers={
                "{{how}}": f"{rate(_DOCUMENTS[0], 'how')}"
                f" / on () group_left () ({rate('talowa_router_messages_total', where=_SENT)} > 0)"
            },
            good="2 to 4 written, 1 to 3 read; sign-ins are in it.",
            main=True,
        ),
        Panel(
            question="What is the store asked?",
            answers={"{{call}}": rate("talowa_router_store_seconds_count", "call")},
            good="find and save with every batch.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How long does it take?",
            answers={"{{call}}": quantile(0.99, "talowa_router_store_seconds", "call")},
            good="Tens of milliseconds.",
            unit="s",
            main=True,
        ),
        Panel(
            question="Which calls fail?",
            answers={"{{call}}": rate("talowa_router_store_errors_total", "call")},
            good="None.",
            unit="ops",
        ),
        Panel(
            question="What becomes of pushes?",
            answers={
                "{{result}}": rate("talowa_router_pushes_total", "result"),
                "waiting": total("talowa_router_pushes_waiting"),
            },
            good="sent; some dead, as apps are deleted. `refused`: the account, or the project.",
            main=True,
        ),
        Panel(
            question="What does Firebase say of accounts?",
            answers={"{{result}}": rate("talowa_router_account_checks_total", "result")},
            good="good. `away`: tokens are believed until they end.",
            unit="ops",
        ),
        Panel(
            question="How old are Google's certificates?",
            answers={"{{instance}}": highest("talowa_gateway_certificates_age_seconds", "instance")},
            good="Hours.",
            unit="s",
            fires_above=86_400,
        ),
    ),
)

LOAD: Final = Board(
    "load",
    "Load run",
    "What people on phones see (locust), beside what the cluster says of itself.",
    (
        Panel(
            question="How many people does locust play, and how many does the cluster see?",
            answers={"locust": total("locust_users"), "signed in": total("talowa_gateway_sessions")},
            good="Alike, but for phones that are out.",
            main=True,
        ),
        Panel(
            question="How many messages do they send, and how many are taken?",
            answers={
                "locust: answered": rate("locust_requests_total", where='type="send"'),
                "cluster: taken": rate("talowa_router_messages_total", where='outcome=~"sent|queued"'),
            },
            good="Alike.",
            unit="ops",
            main=True,
        ),
        Panel(
            question="How long do phones wait for the answer, and how long does the cluster take?",
            answers={
                "locust: send {{name}}, 95 of 100": quantile(0.95, _LOCUST, "name", where='type="send"'),
                "cluster: publish, 95 of 100": quantile(0.95, _STATIONS, where='station="publish"'),
            },
            good="What is between them are gateways and networks.",
            unit="s",
            main=True,
        ),
        Panel(
            question="How long is a message on its way to another phone?",
            answers={
                "locust: deliver {{name}}, 95 of 100": quantile(0.95, _LOCUST, "name", where='type="deliver"'),
                "canary, 95 of 100": quantile(0.95, "talowa_gateway_canary_seconds"),
            },
            good="The network's time more than the cluster's.",
            unit="s",
            main=True,
        ),
        Panel(
            question="What fails on phones, and what does the cluster refuse?",
            answers={
                "locust: {{type}} {{name}}": rate("locust_failures_total", "type", "name"),
                "cluster: {{code}}": rate("talowa_gateway_refusals_total", "code"),
            },
            good="Connections that were dropped on purpose, and nothing else.",
            unit="ops",
        ),
        Panel(
            question="How long does it take to be in, and to have caught up?",
            answers={
                "locust: {{name}}": quantile(0.95, _LOCUST, "name", where='type=~"sign-in|sync"'),
                "cluster: sign-in": quantile(0.95, "talowa_gateway_sign_in_seconds"),
            },
            good="A second or two on slow links.",
            unit="s",
            main=True,
        ),
        Panel(
            question="How much CPU does the cluster use for it?",
            answers={"{{job}}": rate("process_cpu_seconds_total", "job")},
            good="By the message, the same from minute to minute.",
            main=True,
        ),
        Panel(
            question="Does memory grow?",
            answers={"{{job}}": total("process_resident_memory_bytes", "job")},
            good="With people, and not with time.",
            unit="bytes",
        ),
    ),
)

BOARDS: Final = (CLUSTER, MESSAGE, GATEWAYS, ROUTERS, PRESENCE, GOOGLE, LOAD)
