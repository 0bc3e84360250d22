"""Sphinx's settings. The directory with the pages is written by pages.py."""

import os

import pysftpserver

project = "pysftpserver"
version = release = pysftpserver.__version__
copyright = "pysftpserver contributors, MIT licence"
language = "en"
extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
highlight_language = "text"
smartquotes = False  # code and messages stay word for word
myst_heading_anchors = 6
myst_enable_extensions = ["html_image"]
html_theme = "furo"
html_title = f"pysftpserver {release}"
html_search_scorer = os.path.join(os.path.dirname(__file__), "scorer.js")
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {
        "font-stack": "system-ui, sans-serif",
        "font-stack--monospace": "ui-monospace, monospace",
    },
}
# Files of the repository and the API's modules are reached through links and the search.
suppress_warnings = ["toc.not_included"]
