"""Requests that a fuzzer makes of the description of the HTTP interface: openapi_fuzz.py URL

schemathesis sends valid and invalid requests, alone and one after the other with the ids that answers give. No request may be answered with an error of the
server, or otherwise than the description says; requests that break it are refused; what was deleted is gone.
"""

import pathlib
import subprocess
import sys
import tempfile

CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance",
    "negative_data_rejection", "unsupported_method", "allow_header_conformance", "ensure_resource_availability",
]


def fuzz(url, folder, checks, *options):
    command = [pathlib.Path(sys.executable).with_name("schemathesis"), "run", url + "/openapi.json", "--checks", ",".join(checks)]
    command += ["--max-examples", "50", "--seed", "1", "--generation-database", "none", "--request-timeout", "90", "--no-color", "--warnings", "off"]
    ended = subprocess.run([*command, *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout


def main():
    url = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        fuzz(url, folder, CHECKS, "--phases", "examples,coverage,fuzzing,stateful")
        # A job that was cancelled stays listed.
        fuzz(url, folder, ["use_after_free"], "--phases", "stateful", "--exclude-operation-id", "cancel_job")
    print("fuzz: ok")


main()
