"""Work on films that are kept.

An archive is screened in place by one machine or by a Ray cluster. Old films are discarded, refused
ones go back to the inbox, and so do those that no row names.
"""
