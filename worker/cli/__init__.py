"""The command line.

`app` lists the commands; each has a module of its name, which is imported when it is called.
`common` reads settings and opens the database for them, and `failure` says what is wrong.
"""
