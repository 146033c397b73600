"""Lungwatch's worker: films in an inbox become rows in a database.

`lungwatch run` starts in `cli`, is put together in `service.factory` and run by `service.loop`
and `service.pipeline`. The rooms import downhill; pyproject.toml has the contracts.
"""
