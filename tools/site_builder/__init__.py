"""The documentation site: `make site` writes build/site from the pages of docs/, which are not changed.

It is built by Sphinx with MyST and the theme Furo, because these are maintained (MkDocs 1 has had no release
since 2024, and Material for MkDocs is in maintenance mode), search without a server, and load nothing from
other hosts.

markdown.py finds links and headings of a page; pages.py says which pages the site has, and rewrites their
links; api.py writes the API reference from the docstrings, without importing the modules; reference.py lists
the tables that come from the code. The daily tests use all of these, and need no package. What may not enter:
facts about the project that are already in a page or in the code.
"""
