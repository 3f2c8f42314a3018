"""All that can be applied: the overlays, and the base with each component by itself."""

from typing import Final

from tests.k8s.rendered import K8S, OVERLAYS, Document, composed, rendered

COMPONENTS: Final = tuple(
    sorted(f"components/{file.parent.name}" for file in K8S.glob("components/*/kustomization.yaml"))
)
WHOLES: Final = (*OVERLAYS, "base", *COMPONENTS)

# What a component cannot be without.
_NEEDS: Final = {"components/local-issuer": ("components/embedded-store",)}


def whole(name: str) -> list[Document]:
    """The documents of one of `WHOLES`."""
    return composed("base", *_NEEDS.get(name, ()), name) if name in COMPONENTS else rendered(name)
