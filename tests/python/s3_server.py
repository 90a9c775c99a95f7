"""An S3 server of its own on a free port of 127.0.0.1, with the buckets "lake" and "public", which
everybody may read: prints its URL and serves until its input ends."""

import json
import os
import sys

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
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
sys.stdin.read()
# Its threads would wait for the connections that clients keep.
os._exit(0)
