"""What operators see of a process: JSON log lines, `/metrics`, `/healthz`, `/readyz`, traces.

Must not know what a service does. No message content, token or anonymous sender's identity is ever
handed to it.
"""
