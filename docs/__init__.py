"""What is generated among the documents: by `make docs`, from the types in `libs/wire` and the services' settings.

Nothing here runs in a service. Must not say what the types can say.

    asyncapi.py    asyncapi.yaml: the client contract, for machines
    schemas.py     wire types as JSON schemas
    examples.py    one payload of each kind, as it is on the wire
    settings.py    the tables of settings in operations.md
    sizing.py      pods, memory and money in operations.md, from what was measured
"""
