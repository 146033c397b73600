"""The long-running worker.

`loop` turns until it is told to stop; `pipeline` takes a film from the inbox to its row and its
place. The model is changed between films, without a pause.
"""
