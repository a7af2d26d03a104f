"""The manifests of `deploy/kubernetes`: what they name is there, and every object is one that Kubernetes takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from fs3.cli.main import app
from fs3.cli.options import ServiceRole

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "kubernetes" / "base"
OVERLAYS = ("base", "etcd")
OF_KUBERNETES = {"POD_NAMESPACE", "FS3_CLUSTER"}
"""Variables that are not options of `fs3 serve`: one for another variable, one for `fs3 status`."""


def objects() -> list[dict[str, Any]]:
    """Every object of the base."""
    listed = kustomization("base")["resources"]
    return [each for name in listed for each in yaml.safe_load_all((BASE / name).read_text())]


def kustomization(overlay: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((BASE.parent / overlay / "kustomization.yaml").read_text())
    return document


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects() if each["kind"] == kind}


ROLES = [role.value for role in ServiceRole]


def test_every_file_is_listed() -> None:
    assert {path.name for path in BASE.glob("*.yaml")} == {"kustomization.yaml", *kustomization("base")["resources"]}
    for kind in ("StatefulSet", "Service", "PodDisruptionBudget"):
        assert sorted(of_kind(kind)) == sorted(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_whole(role: str) -> None:
    labels = {"app.kubernetes.io/name": "fs3", "app.kubernetes.io/component": role}
    check_role(role, labels, *(of_kind(kind)[role] for kind in ("StatefulSet", "Service", "PodDisruptionBudget")))


def check_role(
    role: str, labels: dict[str, str], pods: dict[str, Any], names: dict[str, Any], disruptions: dict[str, Any]
) -> None:
    """The objects of a role fit each other."""
    spec, service = pods["spec"], names["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == service["selector"] == labels
    assert disruptions["spec"]["selector"]["matchLabels"] == labels
    assert spec["serviceName"] == names["metadata"]["name"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"], "pods find each other before they are ready"
    pod = spec["template"]["spec"]
    ((how, (terms,)),) = pod["affinity"]["podAntiAffinity"].items()
    terms = terms["podAffinityTerm"] if how.startswith("preferred") else terms
    assert terms["labelSelector"]["matchLabels"] == labels
    (container,) = pod["containers"]
    assert container["args"] == ["serve", role]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert all(ports[each["targetPort"]] == each["port"] for each in service["ports"])
    ready = container["readinessProbe"]
    assert ready["grpc"]["port"] == ports["grpc"] if "grpc" in ready else ready["tcpSocket"]["port"] in ports
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    assert set(mounted) == {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]} | volumes
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["FS3_DATA_DIR"] == mounted["data"]
    assert environment["FS3_LISTEN"] == f"0.0.0.0:{ports['framed']}"
    assert environment["FS3_GRPC_LISTEN"] == f"0.0.0.0:{ports['grpc']}"
    assert environment["FS3_ADVERTISE"] == f"$(FS3_NAME).{spec['serviceName']}.$(POD_NAMESPACE).svc"
    variables = list(environment)
    for name, value in environment.items():
        # Kubernetes puts in what stands before.
        for used in re.findall(r"\$\((\w+)\)", value or ""):
            assert used in variables[: variables.index(name)]


def literals(overlay: str) -> dict[str, str]:
    (generator,) = kustomization(overlay)["configMapGenerator"]
    return dict(each.split("=", 1) for each in generator["literals"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_variables_are_those_of_the_command(overlay: str) -> None:
    serve: Any = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {parameter.envvar for parameter in serve.params if parameter.envvar}
    given = {
        each["name"] for of in of_kind("StatefulSet").values() for each in of["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (given | literals(overlay).keys()) - known <= OF_KUBERNETES


def test_managers_are_where_they_are_looked_for() -> None:
    for overlay in OVERLAYS:
        replicas = {each["name"]: each["count"] for each in kustomization(overlay).get("replicas", [])}
        count = replicas.get("mgmtd", of_kind("StatefulSet")["mgmtd"]["spec"]["replicas"])
        wanted = ",".join(f"mgmtd-{number}.mgmtd:8000" for number in range(count))
        assert literals(overlay)["FS3_MGMTD"] == literals(overlay)["FS3_CLUSTER"] == wanted
    assert literals("base")["FS3_STORAGE"] == str(of_kind("StatefulSet")["storage"]["spec"]["replicas"])
    assert int(literals("base")["FS3_REPLICAS"]) <= int(literals("base")["FS3_STORAGE"])


@pytest.mark.parametrize("role", ["meta", "storage"])
def test_a_pod_is_ready_once_the_cluster_is_well(role: str) -> None:
    """Its probe is a command that exists, and is given up before Kubernetes does."""
    (container,) = of_kind("StatefulSet")[role]["spec"]["template"]["spec"]["containers"]
    probe = container["startupProbe"]
    program, *words = probe["exec"]["command"]
    assert (program, words[0]) == ("fs3", "status")
    command: Any = get_command(app).commands["status"]  # type: ignore[attr-defined]
    parsed = command.make_context("status", words[1:], resilient_parsing=False).params
    assert parsed["wait"] == "healthy"
    assert int(parsed["timeout"].removesuffix("s")) < probe["timeoutSeconds"]


def rendered(overlay: str) -> str:
    """As `kubectl apply -k` would send it; the test is skipped where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(BASE.parent / overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_renders(overlay: str) -> None:
    made = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered(overlay))}
    assert all(each["metadata"].get("namespace", "fs3") == "fs3" for each in made.values())
    (config,) = [name for kind, name in made if kind == "ConfigMap"]
    for role in ROLES:
        (container,) = made["StatefulSet", role]["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": config}}], "it follows the settings: a change restarts the pods"
        assert ":" in container["image"]
    assert made["ConfigMap", config]["data"] == {**literals("base"), **literals(overlay)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_it(overlay: str) -> None:
    """Every object, against the schemas of the API."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    text = rendered(overlay) if shutil.which("kubectl") else yaml.safe_dump_all(objects())
    version = validate.latest_version()
    for each in yaml.safe_load_all(text):
        validate.validate(each, version, strict=True)
    with pytest.raises(validate.ValidationError):
        validate.validate({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"prt": 1}]}}, version, strict=True)
