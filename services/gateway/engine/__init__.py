"""Engine.IO 4 for a server, whole: https://socket.io/docs/v4/engine-io-protocol/

Owns connections and what carries them: polls, a WebSocket, the way from one to the other; pings, outboxes,
closing. Must not know what a message says: that is `sockets.py`, whose sockets are these connections. Reads and
writes happen where the loop calls, without a task or a queue per socket or frame.

    packets.py      packets as text, payloads, and frames that are made once for any number of sockets
    connection.py   what becomes of a packet: no I/O in it
    websocket.py    a WebSocket on a transport that aiohttp has shaken hands on
    server.py       HTTP requests → connections
"""
