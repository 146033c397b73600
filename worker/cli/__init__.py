"""The command line.

`app` lists the commands. Each has a module of its name, imported when the command is called.
`common` reads settings and opens the database; `failure` reports errors.
"""
