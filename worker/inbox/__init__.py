"""The inbox, and the folders of archived and refused films.

File-system events are hints; the periodic listing decides. A film is ready once it has stopped
changing. A move never replaces a file.
"""
