"""Stock clients of WebHDFS read, write and list the files of the cluster: webhdfs.py http://HOST:PORT"""

import sys
from urllib.parse import urlparse

import fsspec
import hdfs
import requests

rest = sys.argv[1]
client = hdfs.InsecureClient(rest, user="someone")
text = bytes(i * 7 % 251 for i in range(3_000_000))

# PyPI's hdfs.
client.makedirs("/web/in ner")
client.write("/web/in ner/ü.bin", data=text, replication=2, blocksize=1 << 20)
client.write("/web/lines.txt", data="one\ntwo\n", encoding="utf-8")
assert sorted(client.list("/web")) == ["in ner", "lines.txt"], client.list("/web")
status = client.status("/web/in ner/ü.bin")
assert (status["length"], status["replication"], status["type"]) == (len(text), 2, "FILE"), status
with client.read("/web/in ner/ü.bin") as reader:
    assert reader.read() == text
with client.read("/web/in ner/ü.bin", offset=1_048_570, length=20) as reader:
    assert reader.read() == text[1_048_570:1_048_590]
with client.read("/web/lines.txt", encoding="utf-8", delimiter="\n") as reader:
    assert list(reader)[:2] == ["one", "two"]
try:
    client.write("/web/lines.txt", data="again")
    raise AssertionError("it was written again")
except hdfs.HdfsError as error:
    assert "exists" in str(error), error
client.write("/web/lines.txt", data="again", overwrite=True)
content = client.content("/web")
assert (content["fileCount"], content["directoryCount"], content["length"]) == (2, 2, len(text) + 5), content
client.rename("/web/lines.txt", "/web/moved.txt")
assert client.status("/web/lines.txt", strict=False) is None
client.set_replication("/web/moved.txt", 1)
assert client.status("/web/moved.txt")["replication"] == 1
try:
    client.delete("/web")
    raise AssertionError("a folder that is not empty was removed")
except hdfs.HdfsError as error:
    assert "not empty" in str(error), error
for path, names in [("/nothing", "no file or folder")]:
    try:
        client.list(path)
        raise AssertionError("it was listed")
    except hdfs.HdfsError as error:
        assert names in str(error), error

# fsspec's webhdfs.
address = urlparse(rest)
files = fsspec.filesystem("webhdfs", host=address.hostname, port=address.port, user="someone")
assert files.isdir("/web") and files.isfile("/web/moved.txt") and not files.exists("/web/lines.txt")
with files.open("/web/in ner/ü.bin", "rb") as reader:
    reader.seek(2_000_000)
    assert reader.read(1_000) == text[2_000_000:2_001_000]
assert files.cat("/web/moved.txt") == b"again"
found = sorted(files.find("/web"))
assert [path.rsplit("/", 1)[-1] for path in found] == ["ü.bin", "moved.txt"], found
files.mkdir("/web/made")
files.rm("/web/made")

# What is written goes behind an empty file that is made first, in parts.
with files.open("/web/parts.bin", "wb", block_size=1 << 20) as writer:
    writer.write(text)
assert files.cat("/web/parts.bin") == text
with files.open("/web/parts.bin", "wb") as writer:
    writer.write(b"shorter")
assert files.cat("/web/parts.bin") == b"shorter"
client.write("/web/parts.bin", data=b", and longer", append=True)
assert files.cat("/web/parts.bin") == b"shorter, and longer"
files.cp_file("/web/parts.bin", "/web/copied.bin")
assert files.cat("/web/copied.bin") == b"shorter, and longer"
assert not [path for path in files.find("/web") if files.size(path) == 0], "nothing empty is left"
for refused in [lambda: files.chmod("/web/parts.bin", "777"), lambda: files.chown("/web/parts.bin", owner="me")]:
    try:
        refused()
        raise AssertionError("it is not kept")
    except ValueError as error:
        assert "no users" in str(error), error
for refused in [lambda: client.set_permission("/web", "777"), lambda: client.set_owner("/web", owner="me")]:
    try:
        refused()
        raise AssertionError("it is not kept")
    except hdfs.HdfsError as error:
        assert "no users" in str(error), error

# A name is the same for whoever looks and for whoever writes.
for name in ["a%41", "a%2541", "100%", "a+b c", "x&y=z;#?"]:
    client.write(f"/names/{name}", data=name.encode())
    assert files.cat(f"/names/{name}") == name.encode(), name
    client.write(f"/names/{name}", data=b"again", overwrite=True)
    with client.read(f"/names/{name}") as reader:
        assert reader.read() == b"again", name
assert sorted(client.list("/names")) == sorted(["a%41", "a%2541", "100%", "a+b c", "x&y=z;#?"])


def put(path, **parameters):
    return requests.put(f"{rest}/webhdfs/v1{path}", params=parameters, allow_redirects=False)


# RENAME as Hadoop's FileSystem has it.
client.write("/r/f", data=b"1")
client.write("/r/g", data=b"2")
client.makedirs("/r/d")
client.write("/r/e/x", data=b"x")
for source, destination, right, there in [
    ("/r/f", "/r/g", False, {"/r/f": b"1", "/r/g": b"2"}),
    ("/r/f", "/r/f", True, {"/r/f": b"1"}),
    ("/r/f", "/r/d", True, {"/r/d/f": b"1"}),
    ("/r/d/f", "/r/f", True, {"/r/f": b"1"}),
    ("/r/f", "/r/d/", True, {"/r/d/f": b"1"}),
    ("/r/f", "/r/d", False, {"/r/d/f": b"1"}),
    ("/r/d/f", "/", True, {"/f": b"1"}),
    ("/f", "/r/f", True, {"/r/f": b"1"}),
    ("/r/e", "/r/e/y", False, {"/r/e/x": b"x"}),
    ("/r/e", "/r/d", True, {"/r/d/e/x": b"x"}),
    ("/r/f", "/nowhere/f", False, {"/r/f": b"1"}),
    ("/r/f", "/r/g/f", False, {"/r/f": b"1", "/r/g": b"2"}),
    ("/nothing", "/r/z", False, {}),
    ("/", "/r/z", False, {}),
    ("/r/f", "/r/h", True, {"/r/h": b"1"}),
    # Sent twice.
    ("/r/f", "/r/h", False, {"/r/h": b"1"}),
]:
    answer = put(source, op="RENAME", destination=destination)
    assert (answer.status_code, answer.json()) == (200, {"boolean": right}), (source, destination, answer.text)
    for path, content in there.items():
        assert files.cat(path) == content, (source, destination, path)
assert not files.exists("/nowhere") and not files.exists("/r/z")
files.mv("/r/h", "/r/g")
assert files.cat("/r/g") == b"2"
for path, parameters in [
    ("/r/h", {"op": "RENAME", "destination": "r/z"}),
    ("/r/h", {"op": "RENAME", "destination": ""}),
    ("/r/h", {"op": "RENAME"}),
    ("/r/h", {"op": "SETREPLICATION", "replication": 4294967299}),
    ("/r/new", {"op": "CREATE", "replication": 4294967299}),
    ("/r/new", {"op": "CREATE", "blocksize": "large"}),
]:
    answer = put(path, **parameters)
    exception = answer.json()["RemoteException"]["exception"]
    assert (answer.status_code, exception) == (400, "IllegalArgumentException"), (parameters, answer.text)
assert files.cat("/r/h") == b"1" and not files.exists("/r/new")

# CREATE in two steps, as curl does it.
answer = put("/r/two", op="CREATE")
assert answer.status_code == 307, answer.text
assert requests.put(answer.headers["Location"], data=b"two").status_code == 201
assert files.cat("/r/two") == b"two"
for folder in ["/r", "/names"]:
    assert client.delete(folder, recursive=True)
assert client.delete("/web", recursive=True)
assert not files.exists("/web/moved.txt")
print("ok")
