"""What docs/KUBERNETES.md promises of the objects, one function each. Each takes the objects of a set by kind and
name, and its values; a failed assertion is the finding."""

DISTRIBUTOR = "distributor"


class Objects:
    """The rendered objects of a set."""

    def __init__(self, documents, values, name):
        self.documents, self.values, self.name = documents, values, name

    def of(self, kind):
        return [each for each in self.documents if each["kind"] == kind]

    def one(self, kind, name=None):
        found = [each for each in self.of(kind) if each["metadata"]["name"] == (name or self.name)]
        assert len(found) == 1, f"{kind} {name or self.name}: {len(found)} of them"
        return found[0]

    @property
    def pod(self):
        return self.one("StatefulSet")["spec"]["template"]["spec"]

    @property
    def container(self):
        (container,) = self.pod["containers"]
        return container


def ports(service):
    return {port["name"]: port["port"] for port in service["spec"]["ports"]}


def selects(selector, pod_labels):
    return selector.items() <= pod_labels.items()


def seconds(o, flag):
    (word,) = [word for word in o.container["args"] if word.startswith(flag + "=")]
    return int(word.removeprefix(flag + "=").removesuffix("s"))


def workload(o):
    """StatefulSet, Parallel: names that stay; the first does not hold up the others"""
    spec = o.one("StatefulSet")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["serviceName"] == f"{o.name}-replicas"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert not [each for each in o.of("Deployment") if each["metadata"]["name"] == o.name]


def headless_service(o):
    """headless Service: port 8081, addresses also of those that are not ready"""
    service = o.one("Service", f"{o.name}-replicas")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert ports(service)["weir-analyzers"] == 8081
    labels = o.one("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert selects(service["spec"]["selector"], labels)


def ready_service(o):
    """Service: ports 8080 and 3000, ready distributors only"""
    service = o.one("Service")
    assert not service["spec"].get("publishNotReadyAddresses")
    inputs = {f"in-{each['name']}": each.get("servicePort", each["port"]) for each in o.values["inputs"]}
    assert ports(service) == {"weir-frames": 8080, "weir-http": 3000} | inputs
    labels = o.one("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert selects(service["spec"]["selector"], labels)
    for other in o.of("Deployment") + o.of("DaemonSet"):
        labels = other["spec"]["template"]["metadata"]["labels"]
        assert not selects(service["spec"]["selector"], labels), other["metadata"]["name"]


def inputs(o):
    """inputs: an option of the program, a port of the pod, one of the Service, and one of the emitters' rule each"""
    words = [word.removeprefix("--input=") for word in o.container["args"] if word.startswith("--input=")]
    assert len(words) == len(o.values["inputs"])
    service = {port["name"]: port for port in o.one("Service")["spec"]["ports"]}
    pod = {port["name"]: port for port in o.container["ports"]}
    for word, each in zip(words, o.values["inputs"]):
        place, _, options = word.partition("?")
        assert place == f"{each['protocol']}@{o.values['listen']}:{each['port']}", word
        given = dict(pair.split("=", 1) for pair in options.split("&"))
        assert given == {"name": each["name"]} | {key: str(value) for key, value in each.get("options", {}).items()}
        name, transport = f"in-{each['name']}", each.get("options", {}).get("transport", "tcp").upper()
        assert pod[name]["containerPort"] == each["port"] and pod[name]["protocol"] == transport
        assert service[name]["targetPort"] == name and service[name]["protocol"] == transport
        if o.values["networkPolicy"]["enabled"]:
            emitters = o.one("NetworkPolicy")["spec"]["ingress"][0]["ports"]
            assert {"port": name, "protocol": transport} in emitters


def probes(o):
    """probes: live and start-up at /health/live (30 s), ready at /health/ready every 2 s; over TLS where nothing else is
    spoken; by the admin socket where that asks for a certificate"""
    names = {port["name"]: port["containerPort"] for port in o.container["ports"]}
    tls = o.values["tls"]
    is_secure = bool(tls["secretName"]) and tls["http"] == "required"
    for probe, path in [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")]:
        if is_secure and (tls["httpClients"] or tls["clients"]) == "required":
            assert o.container[probe]["exec"]["command"] == ["/usr/bin/weir", "ctl", "health", path], probe
            continue
        asked = o.container[probe]["httpGet"]
        assert asked["path"] == f"/health/{path}" and names[asked["port"]] == 3000, probe
        assert asked.get("scheme") == ("HTTPS" if is_secure else None), probe
    start = o.container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 30
    assert o.container["readinessProbe"]["periodSeconds"] == 2


def secured(o):
    """tls: options of the program, and secrets that are mounted whole, for the group alone"""
    values, args = o.values["tls"], o.container["args"]
    mounts = {each["name"]: each for each in o.container["volumeMounts"]}
    volumes = {each["name"]: each for each in o.pod["volumes"]}
    if not values["secretName"]:
        assert not [word for word in args if "tls" in word] and "tls" not in mounts
        return
    for port in ("emitters", "analyzers", "http"):
        assert f"--{port}-tls={values[port]}" in args
    wanted = {"tls": (values["secretName"], {"--tls-cert": "tls.crt", "--tls-key": "tls.key"})}
    if values["clients"] != "off":
        assert f"--tls-clients={values['clients']}" in args
        own = [f"--http-tls-clients={values['httpClients']}"] if values["httpClients"] else []
        assert [word for word in args if word.startswith("--http-tls-clients")] == own
        name = "clients" if values["clientCaSecretName"] else "tls"
        secret = values["clientCaSecretName"] or values["secretName"]
        files = wanted["tls"][1] if name == "tls" else {}
        wanted[name] = (secret, files | {"--tls-client-ca": "ca.crt"})
    else:
        assert not [word for word in args if word.startswith("--tls-client")]
    if values["ticketKeysSecretName"]:
        wanted["tickets"] = (values["ticketKeysSecretName"], {"--tls-ticket-keys": "tickets.keys"})
    for name, (secret, files) in wanted.items():
        assert volumes[name]["secret"]["secretName"] == secret, name
        assert volumes[name]["secret"]["defaultMode"] == 0o440, name
        assert mounts[name]["readOnly"] is True and "subPath" not in mounts[name], name
        for flag, file in files.items():
            assert f"{flag}={mounts[name]['mountPath']}/{file}" in args, flag
    assert set(mounts) == {"run", "config"} | set(wanted)


def stop(o):
    """stop: preStop sleeps without a shell; the grace period is above sleep + drain + 5"""
    sleep = o.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain, spread = seconds(o, "--drain-timeout"), seconds(o, "--farewell-spread")
    assert sleep == o.values["stop"]["preStopSleepSeconds"]
    assert o.pod["terminationGracePeriodSeconds"] > sleep + drain + 5
    assert spread == o.values["stop"]["farewellSpreadSeconds"] < drain


def configuration(o):
    """ConfigMap: mounted whole, so that a change arrives; watched, or a checksum makes new pods"""
    assert "subPath" not in str(o.container["volumeMounts"])
    assert o.values["config"].strip() in o.one("ConfigMap")["data"]["weir.toml"]
    watches = o.values["watchConfig"]
    assert f"--watch-config={str(watches).lower()}" in o.container["args"]
    annotations = o.one("StatefulSet")["spec"]["template"]["metadata"].get("annotations", {})
    assert ("checksum/config" in annotations) != watches


def connections(o):
    """connections move: their age has an end"""
    assert seconds(o, "--max-connection-age") == o.values["maxConnectionAgeSeconds"]


def disruption_budget(o):
    """PodDisruptionBudget: one at a time, and AlwaysAllow"""
    spec = o.one("PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == o.values["podDisruptionBudget"]["maxUnavailable"]
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["selector"] == o.one("StatefulSet")["spec"]["selector"]


def autoscaler(o):
    """autoscaler: CPU, one pod less in 120 s after 10 min; it alone says how many"""
    spec = o.one("StatefulSet")["spec"]
    if not o.values["autoscaling"]["enabled"]:
        assert not o.of("HorizontalPodAutoscaler")
        assert spec["replicas"] == o.values["replicas"]
        return
    assert "replicas" not in spec
    scaler = o.one("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": o.name}
    (metric,) = scaler["metrics"]
    assert metric["resource"]["name"] == "cpu"
    assert metric["resource"]["target"]["averageUtilization"] == o.values["autoscaling"]["cpuPercent"]
    down = scaler["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 600
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]


def security(o):
    """security: no root, a user of the release's own, read-only root, no capability, a profile"""
    of_pod, of_container = o.pod["securityContext"], o.container["securityContext"]
    assert of_pod["runAsNonRoot"] is True and of_pod["runAsUser"] >= 1000
    assert of_container == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    wanted = {
        "localhost": {"type": "Localhost", "localhostProfile": o.values["seccomp"]["profile"]},
        "unconfined": {"type": "Unconfined"},
        "runtimeDefault": {"type": "RuntimeDefault"},
    }[o.values["seccomp"]["type"]]
    assert of_pod["seccompProfile"] == wanted
    (run,) = [volume for volume in o.pod["volumes"] if volume["name"] == "run"]
    assert "emptyDir" in run
    assert {"name": "run", "mountPath": "/run/weir"} in o.container["volumeMounts"]
    # No volume that Pod Security "restricted" refuses, and nothing of the host.
    kinds = {kind for volume in o.pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}, kinds
    assert not {"hostNetwork", "hostPID", "hostIPC"} & o.pod.keys()


def cores(o):
    """cores: a Guaranteed pod with whole CPUs"""
    resources = o.container["resources"]
    assert resources["requests"] == resources["limits"]
    assert float(resources["limits"]["cpu"]) == int(resources["limits"]["cpu"]) >= 1
    assert "memory" in resources["limits"]


def service_links(o):
    """enableServiceLinks: false, no token of the API"""
    for each in o.of("StatefulSet") + o.of("Deployment") + o.of("DaemonSet"):
        pod = each["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False, each["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False, each["metadata"]["name"]


def network_policy(o):
    """NetworkPolicy: a rule for each port; analyzers by their label"""
    if not o.values["networkPolicy"]["enabled"]:
        assert not o.of("NetworkPolicy")
        return
    spec = o.one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    rules = {rule["ports"][0]["port"]: rule.get("from", []) for rule in spec["ingress"]}
    values = o.values["networkPolicy"]
    assert rules == {"weir-frames": values["emitters"], "weir-analyzers": values["analyzers"],
                     "weir-http": values["http"]}
    assert rules["weir-analyzers"], "whoever reaches the analyzers' port is given messages"
    for demo in o.of("Deployment"):
        labels = demo["spec"]["template"]["metadata"]["labels"]
        if "analyzer" in demo["metadata"]["name"]:
            assert labels["app.kubernetes.io/component"] == "analyzer"


def monitoring(o):
    """ServiceMonitor and PrometheusRule: options; pods that are not ready are scraped too"""
    values = o.values["serviceMonitor"]
    if not values["enabled"]:
        assert not o.of("ServiceMonitor")
    else:
        monitor = o.one("ServiceMonitor")
        labels = o.one("Service", f"{o.name}-replicas")["metadata"]["labels"]
        assert selects(monitor["spec"]["selector"]["matchLabels"], labels)
        assert not selects(monitor["spec"]["selector"]["matchLabels"], o.one("Service")["metadata"]["labels"])
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] == "weir-http"
        tls = o.values["tls"]
        if tls["secretName"] and tls["http"] == "required":
            assert endpoint["scheme"] == "https"
            assert endpoint["tlsConfig"] == {
                "ca": {"secret": {"name": tls["secretName"], "key": "ca.crt"}},
                "serverName": tls["serverName"] or f"{o.name}.weir.svc"} | values["tlsConfig"]
        else:
            assert "scheme" not in endpoint and "tlsConfig" not in endpoint
        assert values["labels"].items() <= monitor["metadata"]["labels"].items()
    if values["rules"]:
        (group,) = o.one("PrometheusRule")["spec"]["groups"]
        assert len(group["rules"]) >= 8 and all("{{" in r["annotations"]["summary"] for r in group["rules"])
    else:
        assert not o.of("PrometheusRule")


def profiles(o):
    """DaemonSet: an option; it has both profiles as they are in deploy/seccomp"""
    installer = o.values["seccomp"]["installer"]
    if not installer["enabled"]:
        assert not o.of("DaemonSet")
        return
    daemon, data = o.one("DaemonSet", f"{o.name}-seccomp"), o.one("ConfigMap", f"{o.name}-seccomp")
    for each in (daemon, data):
        assert each["metadata"]["namespace"] == installer["namespace"]
    for file in ("weir.json", "weir-strict.json"):
        with open(f"deploy/seccomp/{file}", encoding="utf-8") as profile:
            assert data["data"][file].rstrip() == profile.read().rstrip(), file
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert not container["securityContext"].get("privileged")


def demo(o):
    """demo: an option; analyzers know every distributor, emitters the ready ones"""
    deployments = o.of("Deployment")
    if not o.values["demo"]["enabled"]:
        assert not deployments
        return
    analyzers = o.values["demo"]["analyzers"]
    assert len(deployments) == len(analyzers) + 1
    for analyzer in analyzers:
        (container,) = o.one("Deployment", f"{o.name}-{analyzer['name']}")["spec"]["template"]["spec"]["containers"]
        assert f"--weight={analyzer['weight']}" in container["args"]
        assert f"--addr=dns+{o.name}-replicas:8081" in container["args"]
    (emitter,) = o.one("Deployment", f"{o.name}-emitter")["spec"]["template"]["spec"]["containers"]
    assert f"--addr={o.name}:8080" in emitter["args"]
    tls = o.values["tls"]
    for each in deployments:
        pod = each["spec"]["template"]["spec"]
        port = "emitters" if each["metadata"]["name"].endswith("-emitter") else "analyzers"
        is_secure = bool(tls["secretName"]) and tls[port] != "off"
        args = pod["containers"][0]["args"]
        assert ("--tls" in args) == is_secure and ("--tls-ca=/etc/weir-tls/ca.crt" in args) == is_secure
        # The key is the distributors' alone.
        for volume in pod.get("volumes", []):
            assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


ROWS = [workload, headless_service, ready_service, inputs, probes, secured, stop, configuration, connections, disruption_budget, autoscaler, security, cores,
        service_links, network_policy, monitoring, profiles, demo]
