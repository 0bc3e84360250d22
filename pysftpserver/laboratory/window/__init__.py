"""The window client: its fields, a thread that talks to the server, and the window itself.

Only view.py and log.py know tkinter; the rest can be used and tested without a display.
"""
