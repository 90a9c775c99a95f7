"""A server of AWS's APIs of its own on a free port of 127.0.0.1: prints its URL and serves until its
input ends. Each line of its input is a command, {"call": "PutItem", "body": {…}}, for DynamoDB, and
has one line as its answer: {"status": 200, "body": {…}}. {"bucket": NAME} makes a bucket, and
{"files": PREFIX} has the objects of "lake" by key as its answer, each with its text, which is
decompressed, and with its MD5 in base64."""

import base64
import gzip
import hashlib
import json
import os
import sys
import urllib.error
import urllib.request

import boto3
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


keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
lake = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)


def file(key):
    body = lake.get_object(Bucket="lake", Key=key)["Body"].read()
    text = gzip.decompress(body) if key.endswith(".gz") else body
    return {"text": text.decode(), "md5": base64.b64encode(hashlib.md5(body).digest()).decode()}


for line in sys.stdin:
    command = json.loads(line)
    if "bucket" in command:
        lake.create_bucket(Bucket=command["bucket"])
        print("{}", flush=True)
        continue
    if "files" in command:
        found = lake.list_objects_v2(Bucket="lake", Prefix=command["files"]).get("Contents", [])
        print(json.dumps({one["Key"]: file(one["Key"]) for one in found}), flush=True)
        continue
    print(json.dumps(call(command["call"], command["body"])), flush=True)
# Its threads would wait for the connections that clients keep.
os._exit(0)
