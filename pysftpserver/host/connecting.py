"""The files that Python reads on this host to connect to other hosts by name, with TLS.

A sandbox keeps these files readable. What may not enter: storages, secrets.
Facts: resolv.conf(5), nsswitch.conf(5), ld.so(8), SSL_CTX_load_verify_locations(3).
"""

from __future__ import annotations

import os
import sys

RESOLVER = "/etc/resolv.conf"
# Name resolution, and the libraries that nsswitch.conf loads. Every account may read all of these files.
_NAMES = "/etc/hosts /etc/host.conf /etc/nsswitch.conf /etc/gai.conf /etc/services /etc/ld.so.cache".split()
_LIBRARIES = "/lib /lib64 /usr/lib /usr/lib64 /usr/local/lib".split()
_CERTIFICATES = (
    "/etc/ssl/certs /etc/ssl/openssl.cnf /etc/pki/tls/certs /etc/pki/ca-trust/extracted /etc/ca-certificates "
    "/usr/share/ca-certificates /usr/local/share/ca-certificates /usr/share/pki"
).split()


def files() -> list[str]:
    """Paths of files and directories, of which some may not exist."""
    found = [RESOLVER, *_NAMES, *_LIBRARIES, *_CERTIFICATES, os.path.dirname(os.__file__)]
    found.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # this package
    found += [path for path in sys.path if path.startswith(sys.prefix) and path != sys.prefix]
    resolver = os.path.dirname(os.path.realpath(RESOLVER))
    if resolver != os.path.dirname(RESOLVER):  # the program that manages it replaces the file there
        found.append(resolver)
    if "ssl" in sys.modules:
        paths = sys.modules["ssl"].get_default_verify_paths()
        found += [path for path in (paths.cafile, paths.capath) if path]
    return found
