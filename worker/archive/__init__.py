"""Commands on kept films.

An archive is screened in place, by one machine or a Ray cluster. Old films are discarded. Refused
films, and films that have no row, can go back to the inbox.
"""
