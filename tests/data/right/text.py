"""CSV and JSON files whose records, columns and numbers are easily read otherwise than they were written."""

import bz2
import gzip
import lzma

import pyarrow


def _put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def _records(count, first=0, quote='"', delimiter=",", end="\n"):
    """Records of three lines, of which the inner ones look like records."""
    q, d = quote, delimiter
    return "".join(f"{i}{d}{q}a{end}{i}{d}b{end}{i}{d}c{q}{end}" for i in range(first, first + count))


def write(folder):
    put = lambda name, data: _put(folder, name, data)

    # Line ends inside quotes: in the sample of inference, past it, and where a file is cut.
    put("two/a.csv", "id,t\n" + "".join(f'{i},"first {i}\nsecond, {i}"\n' for i in range(400)))
    put("three/a.csv", "id,t,k\n" + "".join(f'{i},"top {i}\nthen ""{i}"", end",{i % 7}\n' for i in range(3000)))
    put("lines/a.csv", "id,t\n" + _records(3000))
    put("lines_crlf/a.csv", "id,t\r\n" + _records(3000, end="\r\n"))
    put("lines_own/a.csv", "id;t|" + _records(3000, quote="'", delimiter=";", end="|"))
    put("lines_gz/a.csv.gz", gzip.compress(("id,t\n" + _records(3000)).encode()))
    put("late/a.csv", "id,t\n" + "".join(f"{i},x\n" for i in range(20_000)) + _records(20, first=20_000))
    escaped = "".join(f'{i},"a \\" b\n{i},b\n{i},c"\n' for i in range(3000))
    put("escaped/a.csv", "id,t\n" + escaped)
    commented = "".join(f'# it\'s "{i}\n{i},"a\n#{i}"\n' for i in range(3000))
    put("commented/a.csv", "id,t\n" + commented)
    inches = "".join(f'{i},{i}" pipe\n{i},6"\n{i},"x\ny"\n' for i in range(1000))
    put("inches/a.csv", "id,t\n" + inches)
    # One value with more line ends than is looked at.
    put("long/a.csv", 'id,t\n1,"' + "2,line\n" * 100_000 + '"\n2,x\n')
    put("open/a.csv", 'id,t\n1,x\n2,"y\n3,z\n')

    # Headers.
    put("order/1.csv", "first,last\nAda,Lovelace\n")
    put("order/2.csv", "last,first\nHopper,Grace\n")
    put("more/1.csv", "id,a\n1,10\n")
    put("more/2.csv", "id,b,a\n2,99,20\n")
    put("twice/1.csv", "id,x,x\n1,2,3\n")
    put("renamed/1.csv", "first,last\nAda,Lovelace\n")
    put("renamed/2.csv", "first,last\nGrace,Hopper\n")
    put("case/1.csv", "ID,Name\n1,a\n")
    put("case/2.csv", "name,id\nb,2\n")
    put("quoted/a.csv", '"the id","a, b"\r\n1,2\r\n3,4')
    put("mark/a.csv", b"\xef\xbb\xbfid,s\n1,a\n")
    put("mark/b.csv", b"s,id\nb,2\n")
    put("empty/a.csv", "")
    put("empty/b.csv", "id,s\n")
    put("empty/c.csv", "id,s\n1,x")
    put("big/a.csv", "id,a,b\n" + "".join(f"{i},{i + 1},{i + 2}\n" for i in range(5000)))
    put("big/b.csv", "b,id,a\n" + "".join(f"{i + 2},{i},{i + 1}\n" for i in range(5000, 10_000)))
    put("types/1.csv", "id,v,w\n1,1,2024-01-01\n")
    put("types/2.csv", "id,v,w\n2,two,2024-01-01T01:02:03\n")
    put("shorter/a.csv", "id,a,b\n1,2,3\n4\n5,6\n")
    put("headless/a.csv", "1,x\n2,y\n")

    # Empty strings and NULL.
    put("nulls/a.csv", 'id,s\n1,\n2,""\n3,NULL\n4," "\n')
    put("nulls_n/a.csv", 'id,s\n1,\\N\n2,""\n3,\n\\N,"\\N"\n')

    # Numbers.
    put("late_json/a.json", "".join('{"id":%d,"v":1}\n' % i for i in range(1200)) + '{"id":1200,"v":1.5}\n')
    later = '{"id":25000,\n"v":1.5}\n'
    put("later_json/a.json", "".join('{"id":%d,"v":1}\n' % i for i in range(25_000)) + later)
    put("big_json/a.json", '{"id":1,"n":9007199254740993}\n{"id":2,"n":18446744073709551615}\n')
    put("bigger_json/a.json", '{"id":1,"n":1,"m":0.5}\n{"id":2,"n":-123456789012345678901234567890,"m":9007199254740993}\n')
    put("kinds/1.json", '{"id":1,"v":1}\n')
    put("kinds/2.json", '{"id":2,"v":"two"}\n{"id":3,"v":true}\n{"id":4,"v":1.50}\n')
    put("inside/1.json", '{"id":1,"v":{"a":1}}\n')
    put("inside/2.json", '{"id":2,"v":{"a":"x","b":[]}}\n{"id":3,"v":null}\n{"id":4}\n')
    put("later_field/a.json", "".join('{"id":%d}\n' % i for i in range(1500)) + '{"id":1500,"extra":"x"}\n')
    put("null_json/1.json", '{"id":1,"v":null}\n')
    put("null_json/2.json", '{"id":2,"v":[{"w":1}]}\n')
    put("clash/1.json", '{"id":1,"v":{"a":1}}\n')
    put("clash/2.json", '{"id":2}\n{"id":3,"v":7}\n')
    put("array/a.json", b"\xef\xbb\xbf[\n" + b",\n".join(b'{"id":%d,"v":%d}' % (i, i) for i in range(3000)) + b"\n]\n")
    put("array_late/a.json", '[{"id":1,"v":1},\n{"id":2,"v":2.5}]')

    # Compressed files of several members, as `cat a b` makes them.
    halves = [("id,t\n" + _records(1000)).encode(), _records(1000, first=1000).encode()]
    zstd = lambda half: pyarrow.compress(half, codec="zstd", asbytes=True)
    for ending, compress in [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstd)]:
        put(f"members_{ending}/a.csv.{ending}", b"".join(compress(half) for half in halves))
