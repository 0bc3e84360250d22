"""Looks users of pysftpd up in LDAP: python3 ldap_lookup.py FILE, with a question on standard input.

The service's own account searches for the entry. A password is right if the server lets the entry bind with
it; keys are in an attribute. On any error, the exit status is 1 and the login is refused.
Facts: RFC 4513 section 5.1.2: a bind without a password succeeds and proves nothing. RFC 4515 on filters.
"""

import ipaddress
import json
import ssl
import sys
import tomllib

import ldap3
from ldap3.utils.conv import escape_filter_chars

MOST_KEYS = 100


def lookup(settings, question):
    """The record of the user in a question; None if there is none, or the password is wrong."""
    name, password = question["name"], question.get("password")
    if password is not None and not password:
        return None
    with connect(settings) as connection:
        wanted = settings["filter"].replace("{name}", escape_filter_chars(name))
        named = settings.get("name", "uid")
        attributes = list({settings["keys"], settings["folder"], named})
        connection.search(settings["base"], wanted, ldap3.SUBTREE, attributes=attributes, size_limit=2)
        found = [one for one in connection.response if one["type"] == "searchResEntry"]
        if len(found) != 1:  # with several entries, the user is ambiguous
            return None
        entry = found[0]["attributes"]
        names = entry[named] if isinstance(entry[named], list) else [entry[named]]
        if name not in names:  # LDAP ignores case and blanks, pysftpd does not
            return None
        if password is not None and not connection.rebind(found[0]["dn"], password):
            return None
    folder = entry[settings["folder"]]
    record = {"folder": folder[0] if isinstance(folder, list) else folder}
    if password is not None:
        return {**record, "accepted": True}
    keys = [key.decode() if isinstance(key, bytes) else key for key in entry[settings["keys"]]]
    return {**record, "keys": [key.strip() for key in keys[:MOST_KEYS]]}


def connect(settings):
    """A TLS connection, bound as the service's own account. Raises LDAPException, OSError."""
    with open(settings["bind_password_file"]) as file:
        secret = file.readline().rstrip("\r\n")
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.get("ca_file"))
    seconds = settings["seconds"]
    server = ldap3.Server(settings["url"], tls=tls, connect_timeout=seconds, get_info=ldap3.NONE)
    needs_tls = not server.ssl and not is_loopback(server.host)
    return ldap3.Connection(
        server,
        settings["bind_dn"],
        secret,
        auto_bind=ldap3.AUTO_BIND_TLS_BEFORE_BIND if needs_tls else ldap3.AUTO_BIND_NO_TLS,
        receive_timeout=seconds,
        auto_referrals=False,  # otherwise another server would get the password
    )


def is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main():
    with open(sys.argv[1], "rb") as file:
        settings = tomllib.load(file)
    print(json.dumps(lookup(settings, json.load(sys.stdin))))


if __name__ == "__main__":
    main()
