#!/usr/bin/env python3
"""Serves a bucket on standard input and output: serve.py BUCKET. Credentials and region: as for AWS's tools.

AWS_ENDPOINT_URL is the address of another store that speaks S3's protocol.
"""

import os
import sys

from obstore.store import S3Store
from s3storage import SFTPServerS3Storage

from pysftpserver.server import SFTPServer

if __name__ == "__main__":
    address = os.environ.get("AWS_ENDPOINT_URL", "")
    store = S3Store(sys.argv[1], client_options={"allow_http": address.startswith("http:")})
    raise SystemExit(SFTPServer(SFTPServerS3Storage(store)).run())
