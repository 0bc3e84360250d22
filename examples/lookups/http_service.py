"""A service for lookup_url of pysftpd: python3 http_service.py FILE PORT.

FILE has users as JSON: {"alice": {"folder": "a", "keys": ["ssh-ed25519 ..."], "password": "$argon2id$..."}}.
It answers with a user's record, and pysftpd compares the key or the password. It listens on loopback only;
for other hosts, put it behind a server that speaks HTTPS, and use a token on both sides (lookup_token_file).
"""

import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST = 64 << 10  # bytes of a question


class Handler(BaseHTTPRequestHandler):
    timeout = 5

    def do_POST(self):
        expected, given = self.server.token, self.headers.get("Authorization", "")
        if expected and not hmac.compare_digest(given.encode(), f"Bearer {expected}".encode()):
            return self.answer(401)
        size = int(self.headers.get("Content-Length", 0))
        if not 0 < size <= LARGEST:
            return self.answer(413)
        question = json.loads(self.rfile.read(size))
        with open(self.server.users) as file:  # read each time: changes take effect at once
            record = json.load(file).get(question["name"])
        self.answer(404) if record is None else self.answer(200, record)

    def answer(self, status, record=None):
        body = b"" if record is None else json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *words):
        pass  # pysftpd logs who has logged in


def service(users, port, token=""):
    """A server for a file of users."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.users, server.token = users, token
    return server


if __name__ == "__main__":
    service(sys.argv[1], int(sys.argv[2]), os.environ.get("TOKEN", "")).serve_forever()
