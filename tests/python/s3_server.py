"""An S3 server of its own on a free port of 127.0.0.1, with the buckets "lake" and "public", which
everybody may read: prints its URL and serves until its input ends. A line of its input is a request,
which is answered by a line:

    archive PREFIX CLASS    the objects of "lake" are archived, and how many these are is the answer
    classes PREFIX          the storage classes of the objects of "lake" are the answer, each once
    sizes PREFIX            the bytes of the objects of "lake" are the answer, as JSON by key
    slow N                  restored objects can be read after they were looked at N times
    uploads                 how many uploads of "lake" are not completed is the answer
    objects PREFIX          how many objects of "lake" there are is the answer
    fill COUNT FOLDERS      "lake" gets this many empty objects in this many folders of "many"
    requests                the requests since the last question are the answer, as JSON: method, path,
                            query, headers that begin with x-amz, and whether the request is signed
    delay MS                each answer takes this much longer
    capacity N              a request that comes while N others are answered is told to slow down; 0: none is
    reset N                 every Nth connection is reset in place of an answer; 0: none is
    peak                    how many requests were answered at a time since the last question, and how many
                            were told to slow down, is the answer
    date KEY                the objects of this key in all buckets were last modified at one time
    guard PREFIX            keys of "lake" that begin so are only for credentials that a role gave
"""

import json
import os
import socket
import struct
import sys
import threading
import time
from datetime import datetime

import boto3
from moto.moto_api import state_manager
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server


class Gate:
    """What every request passes before the store sees it."""

    def __init__(self, store):
        self.store = store
        self.lock = threading.Lock()
        self.requests, self.running, self.peak, self.slowed, self.count = [], 0, 0, 0, 0
        self.delay, self.capacity, self.reset, self.guarded = 0, 0, 0, None

    def __call__(self, environ, start):
        headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
        path = environ["PATH_INFO"].encode("latin-1").decode()
        authorization = headers.get("authorization", "")
        with self.lock:
            self.running += 1
            self.count += 1
            told = {name: value for name, value in headers.items() if name.startswith("x-amz")}
            method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
            signed = "Signature=" in authorization
            self.requests.append({"method": method, "path": path, "query": query, "headers": told, "signed": signed})
            slow = 0 < self.capacity < self.running
            self.slowed += slow
            if not slow:
                self.peak = max(self.peak, self.running)
            breaks = self.reset and self.count % self.reset == 0
        try:
            if breaks:
                # Closed with data in flight and no time to linger: a reset.
                connection = environ["werkzeug.socket"]
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(connection.detach())
                raise ConnectionResetError
            time.sleep(self.delay)
            if slow:
                body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
                start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
            guarded = self.guarded and path.startswith(f"/lake/{self.guarded}")
            if guarded and ("Credential=ASIA" not in authorization or "x-amz-security-token" not in headers):
                body = b"<Error><Code>AccessDenied</Code><Message>This is for a role.</Message></Error>"
                start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
            return self.store(environ, start)
        finally:
            with self.lock:
                self.running -= 1

    def asked(self):
        with self.lock:
            requests, self.requests = self.requests, []
        return requests

    def measured(self):
        with self.lock:
            peak, slowed, self.peak, self.slowed = self.peak, self.slowed, 0, 0
        return f"{peak} {slowed}"


gate = Gate(DomainDispatcherApplication(create_backend_app))
server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=MotoRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
client.create_bucket(Bucket="lake")
client.create_bucket(Bucket="public")
# This server asks for a permission of its own for HEAD.
actions = ["s3:GetObject", "s3:HeadObject"]
allow = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": "arn:aws:s3:::public/*"}
client.put_bucket_policy(Bucket="public", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
# Objects of uploads in parts have no owner in this server, so it shows them to everybody.
client.put_object(Bucket="lake", Key="private.parquet", Body=b"")
print(url, flush=True)
for line in sys.stdin:
    match line.split():
        case ["archive", prefix, storage_class]:
            objects = client.list_objects_v2(Bucket="lake", Prefix=prefix).get("Contents", [])
            for key in (found["Key"] for found in objects):
                source = {"Bucket": "lake", "Key": key}
                client.copy_object(Bucket="lake", Key=key, CopySource=source, StorageClass=storage_class)
            print(len(objects), flush=True)
        case ["classes", prefix]:
            objects = client.list_objects_v2(Bucket="lake", Prefix=prefix).get("Contents", [])
            print(" ".join(sorted({found["StorageClass"] for found in objects})), flush=True)
        case ["sizes", prefix]:
            objects = client.list_objects_v2(Bucket="lake", Prefix=prefix).get("Contents", [])
            print(json.dumps({found["Key"]: found["Size"] for found in objects}), flush=True)
        case ["uploads"]:
            print(len(client.list_multipart_uploads(Bucket="lake").get("Uploads", [])), flush=True)
        case ["objects", prefix]:
            print(client.list_objects_v2(Bucket="lake", Prefix=prefix)["KeyCount"], flush=True)
        case ["fill", count, folders]:
            from moto.s3.models import s3_backends

            backend = s3_backends["123456789012"]["aws"]
            for number in range(int(count)):
                backend.put_object("lake", f"many/day={number % int(folders):04}/{number:06}.csv", b"")
            print("ok", flush=True)
        case ["date", key]:
            from moto.s3.models import s3_backends

            for bucket in s3_backends["123456789012"]["aws"].buckets.values():
                if key in bucket.keys:
                    bucket.keys[key].last_modified = datetime(2026, 1, 2, 3, 4, 5)
            print("ok", flush=True)
        case ["requests"]:
            print(json.dumps(gate.asked()), flush=True)
        case ["delay", milliseconds]:
            gate.delay = int(milliseconds) / 1000
            print("ok", flush=True)
        case ["capacity", capacity]:
            gate.capacity = int(capacity)
            print("ok", flush=True)
        case ["reset", every]:
            gate.reset = int(every)
            print("ok", flush=True)
        case ["peak"]:
            print(gate.measured(), flush=True)
        case ["guard", prefix]:
            gate.guarded = prefix
            print("ok", flush=True)
        case ["slow", times]:
            state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": int(times)})
            print("ok", flush=True)
# Its threads would wait for the connections that clients keep.
os._exit(0)
