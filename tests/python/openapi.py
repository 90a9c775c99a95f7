"""The document that describes the HTTP interface, and real answers of a cluster beside it: openapi.py URL DIR

The document has to be valid, its examples have to be what it describes, and answers may have no field, status or type that it does not name.
DIR: a folder that the primary reads.
"""

import copy
import pathlib
import sys
import time

import jsonschema
import openapi_spec_validator
import requests
from referencing import Registry
from referencing.jsonschema import DRAFT202012

LONG = "select count(*) from generate_series(1, 4000000) a cross join generate_series(1, 1000000) b where a.value <> b.value"
ROOT = "urn:document"


def strict(schema):
    """Returns a schema whose objects have no field that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(part) for name, part in schema.items()}
    is_object = "properties" in made or "allOf" in made
    if is_object and "additionalProperties" not in made:
        made["unevaluatedProperties"] = False
    # A part of an object does not know the fields of the others.
    for part in made.get("allOf", []):
        part.pop("unevaluatedProperties", None)
    return made


class Interface:
    def __init__(self, url, document):
        self.url, self.document = url, document
        self.seen = set()
        answers = copy.deepcopy(document)
        schemas = answers["components"]["schemas"]
        shared = {part["$ref"].rsplit("/")[-1] for schema in schemas.values() for part in schema.get("allOf", []) if "$ref" in part}
        for name, schema in schemas.items():
            schemas[name] = schema if name in shared else strict(schema)
        self.answers = self.registry(answers)
        self.questions = self.registry(document)

    @staticmethod
    def registry(document):
        return Registry().with_resource(ROOT, DRAFT202012.create_resource(document))

    @staticmethod
    def check(value, schema, registry, what):
        def at_root(part):
            if isinstance(part, dict):
                return {k: ROOT + v if k == "$ref" else at_root(v) for k, v in part.items()}
            return [at_root(one) for one in part] if isinstance(part, list) else part

        validator = jsonschema.Draft202012Validator(at_root(schema), registry=registry)
        errors = [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(value)]
        assert not errors, f"{what}: {errors} in {value}"

    def ask(self, method, template, *names, status, body=None, **options):
        """Asks for a path, in which `names` stand for what is in braces, and checks the answer."""
        operation = self.document["paths"][template][method.lower()]
        parts = template.replace("{", "}").split("}")
        path = "".join(str(part) for pair in zip(parts[::2], [*(requests.utils.quote(str(name), safe="") for name in names), ""]) for part in pair)
        answer = requests.request(method, self.url + path, json=body, timeout=120, **options)
        what = f"{method} {path}: {answer.status_code}"
        assert answer.status_code == status, f"{what}: {answer.text}"
        described = operation["responses"].get(str(status))
        assert described is not None, f"{what} is not described"
        self.seen.add((template, method.lower(), status))
        for name in described.get("headers", {}):
            assert name in answer.headers, f"{what} has no header {name}"
        content = described.get("content", {})
        if not content:
            assert answer.text == "", f"{what} has a body"
            return None
        media = answer.headers["Content-Type"]
        assert media in content or media.split(";")[0] in content, f"{what}: {media} is none of {list(content)}"
        schema = content.get(media) or content[media.split(";")[0]]
        value = answer.json() if media == "application/json" else answer.text
        self.check(value, schema["schema"], self.answers, what)
        return value

    def examples_are_as_described(self):
        count = 0
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                what = f"{method} {path}"
                assert operation.get("summary"), f"{what} has no summary"
                assert operation.get("tags"), f"{what} has no tag"
                assert "503" in operation["responses"], f"{what} is not answered by a standby"
                for parameter in operation.get("parameters", []):
                    assert parameter.get("description"), f"{what}: {parameter['name']} is not described"
                    for key in ("example", "default"):
                        if key in parameter.get("schema", {}) or key in parameter:
                            value = parameter.get(key, parameter.get("schema", {}).get(key))
                            self.check(value, parameter["schema"], self.questions, f"{what}: {parameter['name']}")
                            count += 1
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    if "example" in content:
                        self.check(content["example"], content["schema"], self.questions, what)
                        count += 1
        assert count > 10, count

    def until(self, template, names, states):
        until = time.monotonic() + 60
        while (seen := self.ask("GET", template, *names, status=200))["state"] not in states:
            assert time.monotonic() < until, seen
        return seen


def session_calls(of):
    of.ask("GET", "/version", status=200)
    asked = {
        "kind": "sql", "name": "überall", "proxyUser": "ann", "queue": "default", "ttl": "10h", "idleTimeout": "30m", "heartbeatTimeoutInSecond": 600,
        "conf": {"spark.sql.session.timeZone": "UTC", "spark.ui.port": 4040, "spark.x": True}, "jars": ["a.jar"], "driverMemory": "1g", "numExecutors": 2,
    }
    body = of.document["paths"]["/sessions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    of.check(asked, body, of.questions, "a session")
    session = of.ask("POST", "/sessions", status=201, body=asked)["id"]
    of.ask("POST", "/sessions", status=400, body={"color": 1})
    of.ask("POST", "/sessions", status=413, body={"name": "x" * (9 << 20)})
    of.ask("POST", "/sessions", status=415, body={}, headers={"Content-Encoding": "gzip"})
    of.ask("GET", "/sessions", status=200)
    of.ask("GET", "/sessions", status=400, params={"from": "x"})
    of.ask("GET", "/sessions/{id}", "überall", status=200)
    of.until("/sessions/{id}/state", [session], ["idle"])
    of.ask("GET", "/sessions/{id}/log", session, status=200)
    of.ask("POST", "/sessions/{id}/connect", session, status=200)
    of.ask("POST", "/sessions/{id}/completion", session, status=200, body={"code": "sel", "cursor": 3})
    of.ask("POST", "/sessions/{id}/completion", session, status=400, body={"code": "sel", "cursor": -1})
    run = lambda code, kind=None, **options: of.ask(
        "POST", "/sessions/{id}/statements", session, status=201, body={"code": code, "kind": kind}, params={"wait": 60000}, **options
    )
    outputs = [
        run("select 1 as one, 'a' as b, null as c, [1] as d, {'k': 1} as e, 12.5::decimal(10, 3) as f, X'00' as g, map {'k': 1} as h"),
        run("select value from generate_series(1, 5000)"),
        run("select repeat('x', 100000) as x from generate_series(1, 100)"),
        run("create table seen (a bigint)"),
        run("insert into seen values (1)"),
        run("select nothing"),
        run("spark", "pyspark"),
        run("println(1)", "spark"),
        run("select 2 as two", headers={"Accept": "text/plain, application/vnd.livy.table.v1+json"}),
    ]
    assert [one["output"]["status"] for one in outputs] == ["ok"] * 5 + ["error", "ok", "error", "ok"], outputs
    assert outputs[1]["output"]["data"]["application/json"]["cut"]["by"] == "rows"
    assert outputs[2]["output"]["data"]["application/json"]["cut"]["by"] == "bytes"
    assert len(outputs[8]["output"]["data"]) == 3
    under_way, behind = run_later(of, session, LONG), run_later(of, session, "select 1")
    of.ask("GET", "/sessions/{id}/statements", session, status=200)
    of.until("/sessions/{id}/statements/{statement}", [session, under_way], ["running"])
    of.ask("POST", "/sessions/{id}/statements/{statement}/cancel", session, under_way, status=200)
    of.ask("GET", "/sessions/{id}/statements/{statement}", session, behind, status=200, headers={"Prefer": "wait=60"})
    of.ask("GET", "/sessions/{id}/statements/{statement}", session, 99, status=404)
    of.ask("GET", "/sessions/{id}/statements/{statement}", session, "x", status=400)
    of.ask("POST", "/sessions/{id}/interrupt", session, status=200)
    jobs_calls(of, session)
    of.ask("POST", "/sessions/{id}/stop", session, status=204)
    of.ask("POST", "/sessions/{id}/statements", session, status=400, body={"code": "select 1"})
    of.ask("DELETE", "/sessions/{id}", session, status=200)
    of.ask("GET", "/sessions/{id}", session, status=404)


def run_later(of, session, code):
    return of.ask("POST", "/sessions/{id}/statements", session, status=201, body={"code": code})["id"]


def batch_calls(of, folder):
    (folder / "good.sql").write_text("select cast($1 as bigint); select 2")
    (folder / "wrong.sql").write_text("selec 1")
    good = of.ask("POST", "/batches", status=201, body={"file": str(folder / "good.sql"), "args": ["1"], "name": "gut"})["id"]
    wrong = of.ask("POST", "/batches", status=201, body={"file": str(folder / "wrong.sql")})["id"]
    of.ask("POST", "/batches", status=400, body={"file": "/nowhere.sql"})
    of.until("/batches/{id}/state", [good], ["success"])
    of.until("/batches/{id}", ["gut"], ["success"])
    of.until("/batches/{id}", [wrong], ["dead"])
    of.ask("GET", "/batches/{id}/log", good, status=200)
    of.ask("GET", "/batches", status=200)
    of.ask("DELETE", "/batches/{id}", wrong, status=200)
    of.ask("GET", "/batches/{id}", wrong, status=404)


def jobs_calls(of, session):
    of.ask("GET", "/healthz", status=200)
    of.ask("GET", "/metrics", status=200)
    of.ask("GET", "/metrics/metrics", status=200)
    of.ask("GET", "/metrics/ping", status=200)
    run_later(of, session, LONG)
    until = time.monotonic() + 60
    # It runs before its job is listed.
    while of.ask("GET", "/api/v1/cluster", status=200)["jobs_running"] == 0:
        assert time.monotonic() < until, "its job is not listed"
    jobs = of.ask("GET", "/api/v1/jobs", status=200, params={"all": "true"})["jobs"]
    of.ask("GET", "/api/v1/jobs", status=400, params={"limit": "many"})
    details = [of.ask("GET", "/api/v1/jobs/{job}", job["job"], status=200) for job in jobs]
    assert any(detail["stages"] for detail in details) and any("submission" in detail for detail in details), details
    running = next(job["job"] for job in jobs if job["state"] in ("running", "queued"))
    of.ask("DELETE", "/api/v1/jobs/{job}", running, status=200)
    of.ask("DELETE", "/api/v1/jobs/{job}", "nobody", status=404)


def main():
    url, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    answer = requests.get(url + "/openapi.json", timeout=60)
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    assert document["openapi"].startswith("3.1"), document["openapi"]
    openapi_spec_validator.validate(document)
    of = Interface(url, document)
    of.examples_are_as_described()
    batch_calls(of, folder)
    session_calls(of)
    for path, item in document["paths"].items():
        for method in item:
            assert any(seen[:2] == (path, method) for seen in of.seen), f"nothing asks {method} {path}"
    print("openapi: ok")


main()
