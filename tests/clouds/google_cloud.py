"""
What stands for Google: the control plane that says where a GKE cluster is, and the server that gives out tokens.

The provider's clients reach both by themselves. gRPC goes to container.googleapis.com through a proxy (`grpc_proxy`), which
leads to a server here, whose certificate is of an authority that gRPC is told to trust. The token server is the `token_uri` of
the service account's key, which is made here too. So what is checked is checked for real: the call's name, and signatures.
"""

import contextlib
import json
import secrets
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import grpc
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.cloud.container_v1.types import Cluster, GetClusterRequest, MasterAuth

LOOPBACK = "127.0.0.1"
ENDPOINT = "container.googleapis.com"
ACCOUNT = "airflow@shop.iam.gserviceaccount.com"
CLUSTER = "projects/shop/locations/europe-west4/clusters/dbt"
# Of each request for a token, wherever it is sent.
AUDIENCE = "https://oauth2.googleapis.com/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class GoogleCloud:
    """
    Both servers; use it as a context manager.

    :param cluster_url: of the Kubernetes API of the one cluster that there is
    :param authority: its certificate, as PEM in base64
    :param directory: for the certificate of this server's authority
    """

    def __init__(self, cluster_url, authority, directory):
        self._cluster = Cluster(
            name="dbt",
            endpoint=cluster_url.removeprefix("https://"),
            master_auth=MasterAuth(cluster_ca_certificate=authority),
        )
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._tokens = {}
        self._stack = contextlib.ExitStack()
        self._roots = directory / "google-roots.pem"
        self.asked = []
        """The clusters that were asked for."""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._token_uri = f"http://{LOOPBACK}:{stack.enter_context(_served(self._token_server()))}/token"
            self._proxy_port = stack.enter_context(_tunnel(stack.enter_context(self._control_plane())))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def environment(self):
        """What leads gRPC's clients here."""
        return {
            "grpc_proxy": f"http://{LOOPBACK}:{self._proxy_port}",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self._roots),
        }

    @property
    def connection(self):
        """The extras of Airflow's connection: the key of the service account."""
        private = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = {
            "type": "service_account",
            "project_id": "shop",
            "private_key_id": "key-1",
            "private_key": private.decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": self._token_uri,
        }
        return {"keyfile_dict": json.dumps(key), "project": "shop"}

    def review(self, token):
        """Return whose token this is, as a cluster of GKE asks Google."""
        return self._tokens.get(token)

    def _signed(self, token, audience=None):
        """Return what the service account has signed; raises ValueError."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return jwt.decode(token, certs=public, audience=audience)

    def _token_server(self):
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                assert form["grant_type"] == [GRANT]
                claims = google._signed(form["assertion"][0], AUDIENCE)
                token = f"ya29.{secrets.token_urlsafe(32)}"
                google._tokens[token] = claims["iss"]
                answer = json.dumps(
                    {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return ThreadingHTTPServer((LOOPBACK, 0), Handler)

    @contextlib.contextmanager
    def _control_plane(self):
        """Serve the one call that is made; gives the port."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._roots)
        certificate = authority.issue_cert(ENDPOINT)
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._get_cluster, GetClusterRequest.deserialize, Cluster.serialize
        )
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "google.container.v1.ClusterManager", {"GetCluster": handler}
                )
            ]
        )
        port = server.add_secure_port(f"{LOOPBACK}:0", credentials)
        server.start()
        try:
            yield port
        finally:
            server.stop(1).wait()

    def _get_cluster(self, request, context):
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if token not in self._tokens:
            try:
                self._signed(token)
            except ValueError:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        self.asked.append(request.name)
        if request.name != CLUSTER:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: {request.name}.")
        return self._cluster


@contextlib.contextmanager
def _served(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _tunnel(port):
    """A proxy that leads every CONNECT to Google's API to a port of loopback; gives its own port."""

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self):
            assert self.path == f"{ENDPOINT}:443"
            with socket.create_connection((LOOPBACK, port)) as upstream:
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                back = threading.Thread(target=_pump, args=[upstream, self.connection], daemon=True)
                back.start()
                _pump(self.connection, upstream)
                back.join()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    with _served(server) as own:
        yield own


def _pump(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
