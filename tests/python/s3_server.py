"""An S3 server of its own on a free port of 127.0.0.1, with the buckets "lake" and "public", which
everybody may read: prints its URL and serves until its input ends. A line of its input is a request,
which is answered by a line:

    archive PREFIX CLASS    the objects of "lake" are archived, and how many these are is the answer
    classes PREFIX          the storage classes of the objects of "lake" are the answer, each once
    slow N                  restored objects can be read after they were looked at N times
    uploads                 how many uploads of "lake" are not completed is the answer
    objects PREFIX          how many objects of "lake" there are is the answer
"""

import json
import os
import sys

import boto3
from moto.moto_api import state_manager
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
        case ["uploads"]:
            print(len(client.list_multipart_uploads(Bucket="lake").get("Uploads", [])), flush=True)
        case ["objects", prefix]:
            print(client.list_objects_v2(Bucket="lake", Prefix=prefix)["KeyCount"], flush=True)
        case ["slow", times]:
            state_manager.set_transition("s3::keyrestore", {"progression": "manual", "times": int(times)})
            print("ok", flush=True)
# Its threads would wait for the connections that clients keep.
os._exit(0)
