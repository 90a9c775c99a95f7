"""Stock clients of WebHDFS read, write and list the files of the cluster: webhdfs.py http://HOST:PORT"""

import io
import sys
from urllib.parse import urlparse

import fsspec
import hdfs

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
assert client.delete("/web", recursive=True)
assert not files.exists("/web/moved.txt")
print("ok")
