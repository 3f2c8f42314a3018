"""`docs/alerts.yml` as a PrometheusRule, for those who run the Prometheus operator. `make docs` writes it."""

import textwrap
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("alerts.yml")
RESOURCE: Final = SOURCE.parents[1] / "k8s/components/prometheus-operator/rules.yaml"

_HEAD: Final = """\
# Made from docs/alerts.yml: after a change there, `make docs`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: talowa
  labels:
    app.kubernetes.io/part-of: talowa
spec:
"""


def text() -> str:
    """The resource: the rules as they stand, comments and all, a step further in."""
    return _HEAD + textwrap.indent(SOURCE.read_text(encoding="utf-8"), "  ")


if __name__ == "__main__":
    RESOURCE.write_text(text(), encoding="utf-8")
