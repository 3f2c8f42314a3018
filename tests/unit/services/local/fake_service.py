"""A service that does nothing: ready at PORT until a signal; with a CODE it says so and exits at once."""

import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class _Readyz(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Everything is ready."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""


def _main() -> None:
    if len(sys.argv) > 2:
        print(f"cannot start: PORT={sys.argv[1]} is no good", file=sys.stderr)  # noqa: T201 - its log
        sys.exit(int(sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    HTTPServer(("127.0.0.1", int(sys.argv[1])), _Readyz).serve_forever()


if __name__ == "__main__":
    _main()
