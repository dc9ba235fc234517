"""etcd and Zipkin that are there already, instead of the release's own: with TLS, and with a login."""

from tests.e2e.harness.expectations import all_succeeded, all_whole, none_retried, same_everywhere
from tests.e2e.harness.mesh import Mesh

USER, PASSWORD = "books", "no-secret-in-a-test"
# Whoever shows a certificate and does not log in is the user of that name: so etcd's own etcdctl goes on as before.
LOGINS = (
    ("user", "add", "root", "--no-password"),
    ("user", "add", "infra-bookmesh-etcd", "--no-password"),
    ("user", "add", f"{USER}:{PASSWORD}"),
    ("role", "add", "root"),
    ("role", "add", "registry"),
    ("role", "grant-permission", "registry", "--prefix=true", "readwrite", "/services/"),
    ("user", "grant-role", "root", "root"),
    ("user", "grant-role", "infra-bookmesh-etcd", "root"),
    ("user", "grant-role", USER, "registry"),
    ("auth", "enable"),
)


def test_an_etcd_with_tls_and_login_and_a_zipkin_of_ones_own_are_used(mesh: Mesh) -> None:
    mesh.install_infra("infra", tls={"enabled": True})
    for command in LOGINS:
        mesh.registry.etcdctl(*command)
    mesh.mark("etcd wants logins")
    login = ("--from-literal", f"username={USER}", "--from-literal", f"password={PASSWORD}")
    mesh.cluster.kubectl(mesh.namespace, "create", "secret", "generic", "login", *login)
    mesh.install(
        replicas=2,
        etcd={
            "enabled": False,
            "externalEndpoints": ["infra-bookmesh-etcd:2379"],
            "tlsSecret": "infra-bookmesh-client-tls",
            "loginSecret": "login",
        },
        zipkin={"enabled": False, "externalUrl": "http://infra-bookmesh-zipkin:9411/api/v2/spans"},
    )
    mesh.wait_calls(100)
    mesh.mark("helm test")
    mesh.helm("test", mesh.release, "--logs")
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)
    all_succeeded(mesh, calls)
    none_retried(mesh, verdict, calls)
    all_whole(mesh, verdict, calls)
    same_everywhere(mesh, calls)
