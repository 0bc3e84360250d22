"""What a server promises when something breaks: disks, limits, mounts, plugins, processes and clients.

After each fault the same is asked: what was acknowledged is there, no status said more than was done, the
next session works, and nothing lies about but the partial upload. Servers are processes (serving.py), most
clients speak raw packets and keep account of every WRITE (sessions.py), and disks that can be filled or
made read-only live in mount namespaces of their own (disks.py).
"""
