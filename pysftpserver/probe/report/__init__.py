"""Shows what a probe has found: on a terminal, as JSON, JUnit XML and HTML, and compared with another.

Each of terminal, json, junit and html has text(report), which returns the whole report. All text in a report
is untrusted: it comes from a server or a file. What may not enter: finding anything out.
"""
