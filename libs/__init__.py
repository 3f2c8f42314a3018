"""What more than one service needs: the wire contract, keys, streams, the directory, identity, telemetry.

Nothing in here knows a service.
"""
