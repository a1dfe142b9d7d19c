"""Moto's S3 server, and before it a proxy that checks signatures, counts requests and breaks what it is told to break.

Moto is looked for in the folder KRUL_SERVERS as well. Prints its port, then obeys commands, one JSON object a line on standard input, and answers each with one on standard
output. Ends when standard input does.

  {"bucket": NAME}                            makes a bucket
  {"fault": KIND, "times": N, "method": M, "match": TEXT, ...}
                                              breaks the next N requests of this method whose path and query hold TEXT
  {"share": P, "status": S, "seed": N}        answers that share of all requests with an error; 0 ends it
  {"clock": SECONDS}                          what the server's clock is ahead
  {"heeds": BOOL}                             whether it heeds If-Match and If-None-Match
  {"uploads": BUCKET}                         how many uploads in parts are under way
  {"calm": true}                              breaks nothing any more
  {"count": true}                             requests since the last time, by method, and what broke

Kinds of faults: refuse (closes before the server sees it), forget (closes after the server has done it), cut (half of
the answer), short (an answer that ends early and says that this is all), delay (with "seconds"), error (with "status"
and "code"), body (answers with "text"), flip (one byte of the answer is another one).
"""
import calendar
import email.utils
import hashlib
import hmac
import http.client
import http.server
import json
import os
import random
import socket
import sys
import threading
import time

ACCESS_KEY, SECRET_KEY, TOKEN = "AKIDKRULTEST", "secret:with/odd+characters", "session-token"
REGION = "eu-test-1"


class Rules:
    """What is to be broken, and what was asked."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calm()
        self.counts, self.broken = {}, 0

    def calm(self):
        self.faults, self.share, self.status, self.clock, self.heeds = [], 0.0, 503, 0, True
        self.random = random.Random(0)

    def fault_of(self, method, path):
        with self.lock:
            self.counts[method] = self.counts.get(method, 0) + 1
            for fault in self.faults:
                if fault["times"] > 0 and fault.get("method", method) == method and fault.get("match", "") in path:
                    fault["times"] -= 1
                    self.broken += 1
                    return fault
            if self.random.random() < self.share:
                self.broken += 1
                return {"fault": "error", "status": self.status, "code": "SlowDown"}
        return {"fault": ""}


def signature_of(handler, body):
    """Signature Version 4 of a request as it arrived, from AWS's description of it; None if it bears none."""
    authorization = handler.headers.get("Authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return None, None
    parts = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
    key, scope = parts["Credential"].split("/", 1)
    if key != ACCESS_KEY:
        return parts["Signature"], "InvalidAccessKeyId"
    path, _, query = handler.path.partition("?")
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
    names = parts["SignedHeaders"].split(";")
    # Each header counts with all of its lines, so that one that was sent twice shows.
    headers = "".join(f"{name}:{','.join(value.strip() for value in handler.headers.get_all(name, []))}\n"
                      for name in names)
    hashed = handler.headers.get("x-amz-content-sha256", "")
    if hashed != hashlib.sha256(body).hexdigest():
        return parts["Signature"], "XAmzContentSHA256Mismatch"
    request = "\n".join([handler.command, path, "&".join(f"{name}={value}" for name, value in pairs), headers,
                         parts["SignedHeaders"], hashed])
    text = "\n".join(["AWS4-HMAC-SHA256", handler.headers["x-amz-date"], scope,
                      hashlib.sha256(request.encode()).hexdigest()])
    secret = ("AWS4" + SECRET_KEY).encode()
    for step in scope.split("/"):
        secret = hmac.new(secret, step.encode(), hashlib.sha256).digest()
    return parts["Signature"], hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm, wbufsize = True, -1
    rules = server = None

    def log_message(self, *_):
        pass

    def handle_expect_100(self):
        return super().handle_expect_100() and (self.wfile.flush() or True)

    def end_with(self, status, headers, body, sent=None):
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(time.time() + self.rules.clock, usegmt=True))
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if sent is None else body[:sent])
        self.wfile.flush()

    def error(self, status, code, more="", headers=()):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message>{more}</Error>".encode()
        self.end_with(status, [("Content-Type", "application/xml"), *headers], body)

    def refused(self, body):
        """Whether the request was answered already, for want of a good signature."""
        given, wanted = signature_of(self, body)
        if given is None:
            return self.error(403, "AccessDenied") or True
        if given != wanted:
            code = wanted if wanted and not set(wanted) <= set("0123456789abcdef") else "SignatureDoesNotMatch"
            return self.error(400 if code == "XAmzContentSHA256Mismatch" else 403, code) or True
        if self.headers.get("x-amz-security-token", TOKEN) != TOKEN:
            return self.error(400, "InvalidToken") or True
        if f"/{REGION}/" not in self.headers["Authorization"]:
            return self.error(400, "AuthorizationHeaderMalformed", f"<Region>{REGION}</Region>") or True
        date = calendar.timegm(time.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ"))
        if self.rules.skewed and abs(date - time.time() - self.rules.clock) > 900:
            return self.error(403, "RequestTimeTooSkewed") or True
        return False

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.rules.fault_of(self.command, self.path)
        kind = fault["fault"]
        if kind == "refuse":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if kind == "delay":
            time.sleep(fault["seconds"])
        if kind == "error":
            headers = [(name, value) for name, value in fault.get("headers", {}).items()]
            return self.error(fault["status"], fault.get("code", ""), fault.get("more", ""), headers)
        if kind == "body":
            return self.end_with(fault.get("status", 200), [("Content-Type", "application/xml")],
                                 fault["text"].encode())
        if self.refused(body):
            return None
        conditions = () if self.rules.heeds else ("if-match", "if-none-match")
        headers = {name: value for name, value in self.headers.items()
                   if name.lower() not in ("connection", "expect", *conditions)}
        link = http.client.HTTPConnection(*self.server_address, timeout=20)
        link.request(self.command, self.path, body=body, headers=headers)
        answer = link.getresponse()
        told = answer.read()
        link.close()
        skip = ("connection", "date", "server", "transfer-encoding")
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in skip]
        if self.command != "HEAD":
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        if kind == "forget" or (kind == "cut" and self.command == "HEAD"):
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if kind == "cut":
            self.close_connection = True
            headers.append(("Content-Length", str(len(told))))
            return self.end_with(answer.status, headers, told, len(told) // 2)
        if kind == "short":
            told = told[: len(told) // 2]
        if kind == "flip" and told:
            told = bytearray(told)
            told[len(told) // 2] ^= 0x10
            told = bytes(told)
        return self.end_with(answer.status, headers, told)

    def do_GET(self):
        try:
            self.handle_request()
        except OSError:  # the client went away
            self.close_connection = True

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


def main():
    if "KRUL_SERVERS" in os.environ:
        sys.path.insert(0, os.environ["KRUL_SERVERS"])
    try:
        import logging
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        from moto.server import ThreadedMotoServer
        from moto.s3.models import s3_backends
    except ImportError as missing:
        print(json.dumps({"missing": str(missing)}), flush=True)
        return
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address = moto.get_host_and_port()
    rules = Rules()
    rules.skewed = False
    Proxy.rules, Proxy.server_address = rules, address
    server = Server(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    for line in sys.stdin:
        command, answer = json.loads(line), {}
        with rules.lock:
            if "fault" in command:
                rules.faults.append(command)
            if "share" in command:
                rules.share, rules.status = command["share"], command.get("status", 503)
                rules.random = random.Random(command.get("seed", 0))
            if "clock" in command:
                rules.clock, rules.skewed = command["clock"], command.get("skewed", False)
            if "heeds" in command:
                rules.heeds = command["heeds"]
            if "calm" in command:
                rules.calm()
                rules.skewed = False
            if "count" in command:
                answer = {"counts": rules.counts, "broken": rules.broken}
                rules.counts, rules.broken = {}, 0
        if "bucket" in command:
            link = http.client.HTTPConnection(*address, timeout=20)
            link.request("PUT", "/" + command["bucket"], headers={"Host": "localhost"})
            answer = {"status": link.getresponse().status}
            link.close()
        if "uploads" in command:
            backend = next(iter(s3_backends.values()))["aws"]
            answer = {"uploads": len(backend.buckets[command["uploads"]].multiparts)}
        print(json.dumps(answer), flush=True)
    os._exit(0)


main()
