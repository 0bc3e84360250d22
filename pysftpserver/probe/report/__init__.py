"""What a probe has found, shown: on a terminal, as JSON, JUnit's XML and HTML, and compared with another.

Each of terminal, json, junit and html has text(report), the whole of it. All text of a report is other
people's, be it a server's or that of a file. What may not enter: finding anything out.
"""
