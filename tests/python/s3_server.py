"""An S3 server of its own on a free port of 127.0.0.1, with one bucket, "lake": prints its URL and serves until its input ends."""

import os
import sys

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket="lake")
print(url, flush=True)
sys.stdin.read()
# Its threads would wait for the connections that clients keep.
os._exit(0)
