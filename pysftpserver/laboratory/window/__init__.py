"""The window client: what is in its fields, a thread that talks to the server, and the window around them.

Only view.py and log.py know tkinter; everything else can be used and tested without a display.
"""
