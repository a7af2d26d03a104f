"""The chart of `deploy/helm`: Helm takes it, Kubernetes takes its objects, and they agree with `deploy/kubernetes`.

Where no Helm is at hand what it made of the chart is looked at as recorded (`tests/helm_record.py`).
"""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from typer.main import get_command

from fs3.cli.main import app
from tests.docs.test_kubernetes import OF_KUBERNETES, ROLES, check_role
from tests.docs.test_kubernetes import of_kind as of_kind_in_manifests
from tests.helm_record import CASES, CHART, RELEASE, chart_digest, find_renderer, read_record

needs_helm = pytest.mark.skipif(find_renderer() is None, reason="neither helm nor helm-python-sdk is installed")


def of_kind(case: str, kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in read_record(case)[1] if each["kind"] == kind}


@pytest.mark.parametrize("case", CASES)
def test_the_record_is_of_this_chart(case: str) -> None:
    assert read_record(case)[0] == chart_digest(case), "record it again: python -m tests.helm_record --write"


@needs_helm
@pytest.mark.parametrize("case", CASES)
def test_helm_makes_what_is_recorded(case: str) -> None:
    render = find_renderer()
    assert render is not None
    assert render(case) == read_record(case)[1]


@needs_helm
@pytest.mark.parametrize("case", CASES)
def test_helm_lint_finds_nothing(case: str) -> None:
    values = CASES[case]
    if shutil.which("helm"):
        more = [] if values is None else ["--values", str(values)]
        done = subprocess.run(["helm", "lint", "--strict", str(CHART), *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    lint = importlib.import_module("helm_python").chart.lint
    report = lint(str(CHART), yaml.safe_load(values.read_text()) if values is not None else None, strict=True)
    assert report["errors"] == []


@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_it(case: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for each in read_record(case)[1]:
        validate.validate(each, validate.latest_version(), strict=True)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_whole(case: str, role: str) -> None:
    labels = {"app.kubernetes.io/name": "fs3", "app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": role}
    name = f"{RELEASE}-{role}"
    check_role(role, labels, *(of_kind(case, kind)[name] for kind in ("StatefulSet", "Service", "PodDisruptionBudget")))


@pytest.mark.parametrize("role", ROLES)
def test_containers_are_those_of_the_manifests(role: str) -> None:
    (container,) = of_kind("default", "StatefulSet")[f"{RELEASE}-{role}"]["spec"]["template"]["spec"]["containers"]
    (other,) = of_kind_in_manifests("StatefulSet")[role]["spec"]["template"]["spec"]["containers"]
    same = ("name", "args", "ports", "startupProbe", "readinessProbe", "livenessProbe", "resources", "volumeMounts")
    assert {key: container[key] for key in same} == {key: other[key] for key in same}


@pytest.mark.parametrize("case", CASES)
def test_variables_are_those_of_the_command(case: str) -> None:
    serve: Any = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {parameter.envvar for parameter in serve.params if parameter.envvar}
    sets = of_kind(case, "StatefulSet")
    containers = [each["spec"]["template"]["spec"]["containers"][0] for each in sets.values()]
    data = of_kind(case, "ConfigMap")[RELEASE]["data"]
    assert ({each["name"] for container in containers for each in container["env"]} | data.keys()) - known <= OF_KUBERNETES
    count = sets[f"{RELEASE}-mgmtd"]["spec"]["replicas"]
    wanted = ",".join(f"{RELEASE}-mgmtd-{number}.{RELEASE}-mgmtd:8000" for number in range(count))
    assert data["FS3_MGMTD"] == data["FS3_CLUSTER"] == wanted
    (manager,) = sets[f"{RELEASE}-mgmtd"]["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in manager["env"]}
    assert told["FS3_STORAGE"] == str(sets[f"{RELEASE}-storage"]["spec"]["replicas"])


def test_values_reach_the_objects() -> None:
    pod = of_kind("etcd", "StatefulSet")["fs3-storage"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"fs3/storage": "yes"}
    assert pod["tolerations"] == [{"key": "fs3/storage", "operator": "Exists"}]
    (claim,) = of_kind("etcd", "StatefulSet")["fs3-storage"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "local-nvme"
    assert claim["spec"]["resources"] == {"requests": {"storage": "2Ti"}}
    assert of_kind("etcd", "ConfigMap")["fs3"]["data"]["FS3_LOG_FORMAT"] == "json"


def test_probes_of_pods_with_tls_do_not_speak_grpc() -> None:
    """Kubernetes speaks it without TLS only."""
    for role in ROLES:
        spec = of_kind("tls", "StatefulSet")[f"{RELEASE}-{role}"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert not [name for name, probe in container.items() if name.endswith("Probe") and "grpc" in probe]
        (volume,) = spec["volumes"]
        assert volume["secret"]["defaultMode"] == 0o440, "fs3 uses no key that everybody may read"
        places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        data = of_kind("tls", "ConfigMap")[RELEASE]["data"]
        assert "FS3_INSECURE" not in data
        assert all(data[name].startswith(f"{places['certs']}/") for name in ("FS3_TLS_CA", "FS3_TLS_CERT", "FS3_TLS_KEY"))


def check_values(values: dict[str, Any]) -> None:
    """`jsonschema.ValidationError` naming what the schema of the chart does not allow."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text())).validate(values)


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(values)
    for key, value in more.items():
        found[key] = merged(found[key], value) if isinstance(value, dict) and key in found else value
    return found


def test_the_schema_takes_the_values() -> None:
    default = yaml.safe_load((CHART / "values.yaml").read_text())
    check_values(default)
    for path in CASES.values():
        if path is not None:
            check_values(merged(default, yaml.safe_load(path.read_text())))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"storag": {}}, "storag"),
        ({"storage": {"replicas": 0}}, "0 is less than the minimum"),
        ({"storage": {"replicas": "3"}}, "'3' is not of type 'integer'"),
        ({"storage": {"size": "500"}}, "'500' does not match"),
        ({"meta": {"antiAffinity": "never"}}, "'never' is not one of"),
        ({"cluster": {"kv": "10.0.0.1:2379"}}, "'10.0.0.1:2379' does not match"),
        ({"cluster": {"replicas": 17}}, "17 is greater than the maximum"),
        ({"env": {"PATH": "/bin"}}, "'PATH' does not match"),
        ({"env": {"FS3_COUNT": 1}}, "1 is not of type 'string'"),
        ({"fullnameOverride": "Fs3"}, "'Fs3' does not match"),
        ({"image": {"repository": ""}}, ""),
    ],
)
def test_the_schema_names_what_is_wrong(change: dict[str, Any], named: str) -> None:
    default = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    with pytest.raises(jsonschema.ValidationError) as refused:
        check_values(merged(default, change))
    assert named in refused.value.message


@needs_helm
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mgmtd": {"replicas": 2}}, "mgmtd.replicas and meta.replicas are 1 unless cluster.kv names an engine"),
        ({"storage": {"replicas": 2}}, "storage.replicas is 2: cluster.replicas 3 needs as many storage pods"),
    ],
)
def test_helm_refuses_what_cannot_work(change: dict[str, Any], told: str) -> None:
    if shutil.which("helm"):
        ((role, values),) = change.items()
        command = ["helm", "template", str(CHART), "--set", f"{role}.replicas={values['replicas']}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        assert told in done.stderr
        return
    helm = importlib.import_module("helm_python")
    with helm.Chart.load(str(CHART)) as chart, pytest.raises(helm.errors.HelmError, match=told):
        chart.render(change)
