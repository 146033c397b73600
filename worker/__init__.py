"""Lungwatch's worker: films in an inbox become rows in a database.

`lungwatch run` starts in `cli`, is built in `service.factory` and runs in `service.loop` and
`service.pipeline`. pyproject.toml has the contracts on imports between rooms.
"""
