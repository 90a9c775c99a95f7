"""A server of AWS's APIs of its own on a free port of 127.0.0.1: prints its URL and serves until its
input ends. Each line of its input is a command and has one line as its answer: {"call": "PutItem",
"body": {…}}, for DynamoDB, is answered by {"status": 200, "body": {…}}, and {"bucket": "lake"} makes
a bucket of S3."""

import json
import os
import sys
import urllib.error
import urllib.request

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
print(url, flush=True)

HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Date": "20260101T000000Z",
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/eu-central-1/dynamodb/aws4_request, "
    "SignedHeaders=host, Signature=0",
}


def call(operation, body):
    headers = {**HEADERS, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return {"status": answer.status, "body": json.loads(answer.read() or b"{}")}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": json.loads(error.read() or b"{}")}


def bucket(name):
    request = urllib.request.Request(f"{url}/{name}", method="PUT")
    request.add_header("Authorization", HEADERS["Authorization"].replace("eu-central-1/dynamodb", "us-east-1/s3"))
    with urllib.request.urlopen(request) as answer:
        return {"status": answer.status, "body": {}}


for line in sys.stdin:
    command = json.loads(line)
    answer = bucket(command["bucket"]) if "bucket" in command else call(command["call"], command["body"])
    print(json.dumps(answer), flush=True)
# Its threads would wait for the connections that clients keep.
os._exit(0)
