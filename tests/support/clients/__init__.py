"""Real clients of three kinds, all writing what they see into one History.

Own a connection each and what it received. Must not know how the cluster is built: a client has an
address and a token. What is received is announced, so waiting never polls.

    client.py       Client: what a JavaScript and a Python client have in common
    inbox.py        Inbox: what one client received, and waiting for more
    javascript.py   JsClients: unmodified socket.io-client, in one Node process per test
    python.py       PythonClient: unmodified python-socketio
    raw.py          RawClient: a WebSocket and Engine.IO by hand, for what no library would send
"""

from tests.support.clients.client import Client, NoAnswer
from tests.support.clients.inbox import Event
from tests.support.clients.javascript import DriverDied, JsClient, JsClients
from tests.support.clients.python import PythonClient
from tests.support.clients.raw import RawClient

__all__ = ["Client", "DriverDied", "Event", "JsClient", "JsClients", "NoAnswer", "PythonClient", "RawClient"]
