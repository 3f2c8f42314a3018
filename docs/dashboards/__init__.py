"""The dashboards: what each panel asks, and by which expression it answers.

    board.py     what a panel and a dashboard are; expressions
    boards.py    the seven of them
    grafana.py   as Grafana takes them: k8s/components/grafana/*.json (`make docs`)
    pictures.py  the main panels of each, drawn from what a Prometheus has: docs/pictures
    live.py      Prometheus, and Grafana if it is there, beside a cluster that runs (`make dashboards`)

Knows the names of series (`docs.metrics`) and nothing of the services.
"""
