"""A server of large bodies: `ADDRESS PORT`.

POST counts what comes and says how much; GET /N sends N bytes; GET /events sends ten events, one each 0.2 s.
"""

import http.server
import sys
import time

PART = bytes(1 << 20)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def head(self, length):
        self.send_response(200)
        for name, value in {"Content-Type": "text/event-stream"}.items() if length is None else []:
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def take(self, length):
        count = 0
        while count < length:
            part = len(self.rfile.read1(min(length - count, 1 << 20)))
            if part == 0:
                raise EOFError
            count += part
        return count

    def do_POST(self):
        length = self.headers["Content-Length"]
        if length is not None:
            how, count = "length", self.take(int(length))
        else:
            how, count = "chunked", 0
            while (size := int(self.rfile.readline().split(b";")[0], 16)) > 0:
                count += self.take(size)
                self.rfile.readline()
            self.rfile.readline()
        text = f"{how} {count}\n".encode()
        self.head(len(text))
        self.wfile.write(text)

    do_PUT = do_POST

    def do_GET(self):
        if self.path == "/events":
            self.head(None)
            for number in range(10):
                text = f"data: {number}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
                self.wfile.flush()
                time.sleep(0.2)
            self.wfile.write(b"0\r\n\r\n")
            return
        length = int(self.path.strip("/") or 0)
        self.head(length)
        while length > 0:
            length -= self.wfile.write(PART[: min(length, len(PART))])


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
