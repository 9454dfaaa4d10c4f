"""A server for tests of downloads, which misbehaves as real ones do."""

import contextlib
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def serving(content):
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Server(ThreadingHTTPServer):
    """Serves `content` at every address, with the faults it is told to have.

    Content may also be a dict, by the last part of an address.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.asked = []  # the Range header of each request
        self.answers = []  # status of the next answers, if not the usual one
        self.drop_after = []  # bytes of the body that the next answers send
        self.ranges = True
        self.resets = False  # whether connections drop without a farewell
        self.etag = None
        self.claimed_length = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/model.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.asked.append(asked)
        status = server.answers.pop(0) if server.answers else 200
        if status != 200:
            self.send_error(status)
            return
        content = server.content
        if isinstance(content, dict):
            content = content[self.path.rpartition("/")[2]]
        start, total = 0, server.claimed_length or len(content)
        unchanged = self.headers["If-Range"] in (None, server.etag)
        if asked and server.ranges and unchanged:
            status, start = 206, int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(total - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        end = start + server.drop_after.pop(0) if server.drop_after else None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content[start:end])
        if server.resets and end is not None:
            at_once = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.connection.close()

    def log_message(self, *args):
        pass
