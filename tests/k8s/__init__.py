"""The manifests hold what the conventions ask for: all of it is read from what `kubectl kustomize` renders."""
