"""
What stands for AWS: moto's server, which answers for EKS, IAM and STS.

It knows one cluster, whose endpoint and authority are those of a Kubernetes API of ours, and one user. The cluster reviews a
token as EKS does (https://github.com/kubernetes-sigs/aws-iam-authenticator): it is the address of a signed request to STS, which
the cluster makes to learn who has signed it.
"""

import base64
import contextlib
import urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import boto3
from moto.eks.models import eks_backends
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "eu-central-1"
ACCOUNT = "123456789012"
CLUSTER = "dbt"
PREFIX = "k8s-aws-v1."
# What EKS itself grants a token.
LIFETIME = timedelta(minutes=15)


class Amazon:
    """
    The server; use it as a context manager.

    :param cluster_url: of the Kubernetes API of the one cluster that there is
    :param authority: its certificate, as PEM in base64
    """

    def __init__(self, cluster_url, authority):
        self._cluster_url = cluster_url
        self._authority = authority
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)

    def __enter__(self):
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        options = {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": "root",
            "aws_secret_access_key": "root",
        }
        iam, eks = (boto3.client(service, **options) for service in ("iam", "eks"))
        iam.create_user(UserName="airflow")
        self._key = iam.create_access_key(UserName="airflow")["AccessKey"]
        eks.create_cluster(
            name=CLUSTER, roleArn=f"arn:aws:iam::{ACCOUNT}:role/eks", resourcesVpcConfig={}, version="1.34"
        )
        cluster = eks_backends[ACCOUNT][REGION].clusters[CLUSTER]
        cluster.endpoint, cluster.certificate_authority = self._cluster_url, {"data": self._authority}
        return self

    def __exit__(self, *_):
        self._server.stop()

    @property
    def environment(self):
        """What leads boto3 here."""
        return {"AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true"}

    @property
    def connection(self):
        """Airflow's connection, as the REST API takes it."""
        return {"login": self._key["AccessKeyId"], "password": self._key["SecretAccessKey"]}

    def review(self, token):
        """Return whose token this is, as a cluster of EKS asks STS."""
        if not token.startswith(PREFIX):
            return None
        encoded = token.removeprefix(PREFIX)
        with contextlib.suppress(ValueError):
            url = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            return self._signer(url)
        return None

    def _signer(self, url):
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        is_good = (
            url.startswith(f"{self.url}/?")
            and query["Action"] == "GetCallerIdentity"
            and query["X-Amz-Credential"].split("/")[0] == self._key["AccessKeyId"]
            and "x-k8s-aws-id" in query["X-Amz-SignedHeaders"].split(";")
            and datetime.now(timezone.utc) - signed < LIFETIME
        )
        if not is_good:
            return None
        # moto looks for the signature in the header alone.
        signature = ", ".join(
            f"{name}={query[f'X-Amz-{name}']}" for name in ("Credential", "SignedHeaders", "Signature")
        )
        headers = {"x-k8s-aws-id": CLUSTER, "Authorization": f"{query['X-Amz-Algorithm']} {signature}"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - of loopback, as checked
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            document = ET.fromstring(answer.read())  # noqa: S314 - of moto
        return document.find(".//{*}Arn").text
