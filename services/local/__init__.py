"""The whole cluster on one machine: embedded broker, SQLite, local token issuer, N gateways and routers.

Owns how local processes are started, watched and stopped, and what lies in `DATA_DIR`. It composes
services and knows nothing of what they do: it hands them settings, asks `/readyz`, and sends signals.
`talowa` is its command; `cluster` is a library that tests use as well.

What can go wrong, for a caller:

    libs.lifecycle.Unstartable   something is in the way; the message says what, and the remedy
    libs.settings.SettingsError  a setting is wrong
    cluster.NotReady             a process was not ready in time, or died before it was
    people.BadFile               a file to import has entries that are wrong; the message names each
"""
