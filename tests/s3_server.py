"""A real S3 server on a free port, which can be told to fail."""

from __future__ import annotations

import itertools
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import fsspec
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "runs"
_BODY = "<Error><Code>{code}</Code><Message>told to</Message></Error>"


class Server:
    """The bucket :data:`BUCKET` behind ``url``, and what is done to requests before they reach it."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing-key",
            "AWS_SECRET_ACCESS_KEY": "testing-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.requests: list[tuple[str, str]] = []
        self.every = 0
        self.failed = 0
        self.refused: frozenset[str] = frozenset()
        self._count = itertools.count(1)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI: each ``every``-th request fails with 500 or 503, methods in ``refused`` with 403."""
        method, number = environ["REQUEST_METHOD"], next(self._count)
        self.requests.append((method, f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"))
        status = code = ""
        if method in self.refused:
            status, code = "403 Forbidden", "AccessDenied"
        elif self.every and number % self.every == 0:
            self.failed += 1
            odd = self.failed % 2
            status = "500 Internal Server Error" if odd else "503 Service Unavailable"
            code = "InternalError" if odd else "ServiceUnavailable"
        if not status:
            return self._app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start(status, [("Content-Type", "application/xml")])
        # An answer to HEAD has no body: clients take one for the start of the next answer.
        return [b"" if method == "HEAD" else _BODY.format(code=code).encode()]

    @property
    def client(self) -> Any:
        """Looks past whatever the code under test thinks."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="other",
            aws_secret_access_key="other",
        )

    def names(self, prefix: str = "") -> list[str]:
        """Keys in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """An object."""
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Serve, with the bucket made."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            # Its objects are the process's: those of the test before are there still.
            urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"))
            self.client.create_bucket(Bucket=BUCKET)
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@contextmanager
def s3_environment() -> Iterator[Server]:
    """A server to which this process's own fsspec goes."""
    with Server().running() as server, pytest.MonkeyPatch.context() as patch:
        for key, value in server.environment.items():
            patch.setenv(key, value)
        # s3fs keeps its instances, and with them the server of the test before.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield server
        fsspec.get_filesystem_class("s3").clear_instance_cache()
