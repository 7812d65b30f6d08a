"""Eight sets of values, and wrong ones with the path that has to be named."""

CONFIG = """[memory]
arena = "128MiB"

[delivery]
on_slow = "wait"

[[http_analyzers]]
id = "archive"
endpoint = "http://archive.logs.svc:4001"
weight = 0.2

[[weights]]
id = "analyzer-1"
weight = 0.5
"""

SETS = {
    "defaults": {},
    "demo on a laptop": {
        "replicas": 1,
        "seccomp": {"type": "unconfined"},
        "demo": {"enabled": True},
    },
    "autoscaled": {
        "autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 6, "cpuPercent": 50},
        "resources": {"requests": {"cpu": "4", "memory": "1Gi"}, "limits": {"cpu": "4", "memory": "1Gi"}},
    },
    "observed": {
        "serviceMonitor": {"enabled": True, "rules": True, "labels": {"release": "prometheus"}},
        "service": {"type": "LoadBalancer", "annotations": {"example.org/internal": "true"}},
        "seccomp": {"type": "runtimeDefault"},
        "networkPolicy": {"enabled": False},
    },
    "profiles by a DaemonSet": {
        "seccomp": {"profile": "weir-strict.json", "installer": {"enabled": True, "namespace": "kube-system"}},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
        "fullnameOverride": "divider",
    },
    "TLS, and a demo": {
        "tls": {"secretName": "weir-tls", "http": "required"},
        "inputs": [{"name": "syslog", "protocol": "syslog", "port": 6514, "options": {"tls": "required"}}],
        "serviceMonitor": {"enabled": True},
        "demo": {"enabled": True},
    },
    "TLS with certificates of clients": {
        "tls": {
            "secretName": "weir-tls", "http": "required", "clients": "required", "clientCaSecretName": "clients-ca",
            "ticketKeysSecretName": "tickets", "serverName": "logs.example.org",
        },
        "serviceMonitor": {"enabled": True, "tlsConfig": {
            "cert": {"secret": {"name": "prometheus", "key": "tls.crt"}},
            "keySecret": {"name": "prometheus", "key": "tls.key"},
        }},
    },
    "everything": {
        "image": {
            "repository": "registry.example.org/logs/weir", "digest": "sha256:" + "0" * 64,
            "pullPolicy": "Always", "pullSecrets": ["registry"],
        },
        "replicas": 5,
        "config": CONFIG,
        "watchConfig": False,
        "tls": {"secretName": "weir-tls", "emitters": "optional", "analyzers": "off", "http": "required",
                "clients": "optional", "httpClients": "off"},
        "listen": "[::]",
        "extraEnv": [{"name": "RUST_LOG", "value": "debug"}],
        "extraArgs": ["--on-slow=wait"],
        "inputs": [
            {"name": "syslog", "protocol": "syslog", "port": 1514, "servicePort": 514,
             "options": {"proxy_from": "10.0.0.0/8", "framing": "lf"}},
            {"name": "udp", "protocol": "syslog", "port": 1515, "options": {"transport": "udp"}},
            {"name": "fluent", "protocol": "forward", "port": 24224, "options": {"ack": "received", "unit_bytes": "8MiB"}},
        ],
        "stop": {"preStopSleepSeconds": 10, "drainSeconds": 60, "gracePeriodSeconds": 90, "farewellSpreadSeconds": 0},
        "maxConnectionAgeSeconds": 0,
        "resources": {"requests": {"cpu": 8, "memory": "2Gi"}, "limits": {"cpu": 8, "memory": "2Gi"}},
        "runAsUser": 4711,
        "networkPolicy": {
            "emitters": [{"ipBlock": {"cidr": "10.20.0.0/16"}}],
            "http": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
        "podAnnotations": {"example.org/owner": "logs"},
        "podLabels": {"team": "logs"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "logs", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}]}}},
        "priorityClassName": "high",
        "demo": {"enabled": True, "emitter": {"replicas": 2}},
    },
}

# Values, and what the refusal has to name.
WRONG = [
    ({"replicas": "three"}, "/replicas"),
    ({"replicas": -1}, "/replicas"),
    ({"replica": 3}, "replica"),
    ({"seccomp": {"type": "none"}}, "/seccomp/type"),
    ({"seccomp": {"installer": {"hostPath": "var/lib"}}}, "/seccomp/installer/hostPath"),
    ({"stop": {"drainSeconds": 0}}, "/stop/drainSeconds"),
    ({"stop": {"gracePeriodSeconds": 40}}, "stop.gracePeriodSeconds"),
    ({"stop": {"drainSeconds": 5}}, "stop.farewellSpreadSeconds"),
    ({"maxConnectionAgeSeconds": "10m"}, "/maxConnectionAgeSeconds"),
    ({"watchConfig": "yes"}, "/watchConfig"),
    ({"tls": {"http": "yes"}}, "/tls/http"),
    ({"tls": {"secretName": "Weir_TLS"}}, "/tls/secretName"),
    ({"tls": {"clients": "required"}}, "tls.clients"),
    ({"tls": {"secretName": "x", "httpClients": "required"}}, "tls.httpClients"),
    ({"tls": {"ticketKeysSecretName": "tickets"}}, "tls.ticketKeysSecretName"),
    ({"tls": {"secretName": "x", "clients": "required"}, "demo": {"enabled": True}}, "demo.enabled"),
    ({"tls": {"secretName": "x", "clients": "required", "http": "required"}, "serviceMonitor": {"enabled": True}},
     "serviceMonitor.tlsConfig"),
    ({"inputs": [{"name": "x", "protocol": "syslog", "port": 6514, "options": {"tls": "required"}}]}, "tls.secretName"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"runAsUser": 0}, "/runAsUser"),
    ({"listen": "127.0.0.1"}, "/listen"),
    ({"inputs": [{"name": "syslog", "protocol": "syslog", "port": 514}]}, "/inputs/0/port"),
    ({"inputs": [{"name": "x", "protocol": "syslog", "port": 8080}]}, "/inputs/0/port"),
    ({"inputs": [{"name": "Sys_log", "protocol": "syslog", "port": 1514}]}, "/inputs/0/name"),
    ({"inputs": [{"name": "x", "protocol": "syslog", "port": 1514, "options": {"name": "y"}}]}, "invalid propertyName"),
    ({"service": {"type": "ExternalName"}}, "/service/type"),
    ({"resources": {"requests": {"cpu": "many"}}}, "/resources/requests/cpu"),
    ({"autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 2}}, "autoscaling.maxReplicas"),
    ({"autoscaling": {"cpuPercent": 101}}, "/autoscaling/cpuPercent"),
    ({"demo": {"analyzers": [{"name": "a", "weight": -1, "replicas": 1}]}}, "/demo/analyzers/0/weight"),
    ({"fullnameOverride": "Weir_1"}, "/fullnameOverride"),
]
