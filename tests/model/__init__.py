"""The lease and its fencing token, and save, publish, acknowledge: a small model, looked through whole (docs/adr/0020).

`world` is what there is, `steps` what may happen next, `promises` what must always be so, `checker` looks at every
order of events. The model knows no time: whoever is slow, or was paused, is somebody who takes no step for a while.
"""
