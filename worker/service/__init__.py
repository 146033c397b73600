"""The long-running worker.

`loop` runs until it is stopped. `pipeline` takes a film from the inbox to its row and its folder.
The model is swapped between films, without a pause.
"""
