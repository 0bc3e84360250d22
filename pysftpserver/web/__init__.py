"""Files in a browser: WebDAV, pages, and a page for operators."""
