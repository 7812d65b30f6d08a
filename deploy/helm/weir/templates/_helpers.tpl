{{- define "weir.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: distributor
{{- end -}}

{{- define "weir.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{/* An input as --input takes it; the address has been looked at by the schema. */}}
{{- define "weir.input" -}}
{{- $input := index . 1 -}}
{{- $text := printf "%s@%s:%d?name=%s" $input.protocol (index . 0) ($input.port | int64) $input.name -}}
{{- range $key, $value := $input.options -}}
{{- $text = printf "%s&%s=%s" $text $key ($value | toString | replace "%" "%25" | replace "&" "%26") -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- define "weir.transport" -}}
{{- if eq (dig "transport" "tcp" (default dict .options)) "udp" -}}UDP{{- else -}}TCP{{- end -}}
{{- end -}}

{{/* A user for each release: locked memory is counted by the user on a host, not by the pod. */}}
{{- define "weir.user" -}}
{{- if kindIs "invalid" .Values.runAsUser -}}
{{- add 100000 (mod (adler32sum (printf "%s/%s" .Release.Namespace .Release.Name) | int64) 900000) -}}
{{- else -}}
{{- .Values.runAsUser | int64 -}}
{{- end -}}
{{- end -}}

{{- define "weir.gracePeriod" -}}
{{- $needed := add .Values.stop.preStopSleepSeconds .Values.stop.drainSeconds 5 -}}
{{- if kindIs "invalid" .Values.stop.gracePeriodSeconds -}}
{{- add $needed 5 -}}
{{- else if le (.Values.stop.gracePeriodSeconds | int64) ($needed | int64) -}}
{{- fail (printf "stop.gracePeriodSeconds: %d: allowed: above %d, which is preStopSleepSeconds %d + drainSeconds %d + 5" (.Values.stop.gracePeriodSeconds | int64) $needed (.Values.stop.preStopSleepSeconds | int64) (.Values.stop.drainSeconds | int64)) -}}
{{- else -}}
{{- .Values.stop.gracePeriodSeconds | int64 -}}
{{- end -}}
{{- end -}}

{{/* --graceful-close, 1 s, comes on top. */}}
{{- define "weir.farewellSpread" -}}
{{- $most := sub (.Values.stop.drainSeconds | int64) 1 -}}
{{- if gt (.Values.stop.farewellSpreadSeconds | int64) $most -}}
{{- fail (printf "stop.farewellSpreadSeconds: %d: allowed: at most %d, which is drainSeconds - 1" (.Values.stop.farewellSpreadSeconds | int64) $most) -}}
{{- end -}}
{{- .Values.stop.farewellSpreadSeconds | int64 -}}
{{- end -}}

{{- define "weir.tlsName" -}}
{{- default (printf "%s.%s.svc" (include "weir.name" .) .Release.Namespace) .Values.tls.serverName -}}
{{- end -}}

{{/* Options of the distributor, a line each; what does not go together is refused. */}}
{{- define "weir.tlsArgs" -}}
{{- $tls := .Values.tls -}}
{{- if not $tls.secretName -}}
{{- if ne $tls.clients "off" }}{{ fail (printf "tls.clients: %s: without tls.secretName no TLS is spoken" $tls.clients) }}{{ end -}}
{{- if $tls.httpClients }}{{ fail (printf "tls.httpClients: %s: without tls.secretName no TLS is spoken" $tls.httpClients) }}{{ end -}}
{{- if $tls.ticketKeysSecretName }}{{ fail "tls.ticketKeysSecretName: without tls.secretName no TLS is spoken" }}{{ end -}}
{{- range .Values.inputs -}}
{{- if ne (dig "tls" "off" (default dict .options)) "off" }}{{ fail (printf "inputs: %s: options.tls needs tls.secretName" .name) }}{{ end -}}
{{- end -}}
{{- else -}}
{{- if and $tls.httpClients (eq $tls.clients "off") }}{{ fail "tls.httpClients: with tls.clients off nobody is asked; allowed: with optional or required" }}{{ end -}}
--emitters-tls={{ $tls.emitters }}
--analyzers-tls={{ $tls.analyzers }}
--http-tls={{ $tls.http }}
--tls-cert=/etc/weir-tls/tls.crt
--tls-key=/etc/weir-tls/tls.key
{{- if ne $tls.clients "off" }}
--tls-client-ca=/etc/weir-{{ if $tls.clientCaSecretName }}clients{{ else }}tls{{ end }}/ca.crt
--tls-clients={{ $tls.clients }}
{{- with $tls.httpClients }}
--http-tls-clients={{ . }}
{{- end }}
{{- end }}
{{- if $tls.ticketKeysSecretName }}
--tls-ticket-keys=/etc/weir-tickets/tickets.keys
{{- end }}
{{- end -}}
{{- end -}}

{{/* Whether HTTP clients must show a certificate. */}}
{{- define "weir.httpClients" -}}
{{- default .tls.clients .tls.httpClients -}}
{{- end -}}

{{/* Who asks for health: the kubelet shows no certificate, so where one is asked for the program asks itself. */}}
{{- define "weir.probe" -}}
{{- $values := index . 0 -}}
{{- $what := index . 1 -}}
{{- $is_secure := and $values.tls.secretName (eq $values.tls.http "required") -}}
{{- if and $is_secure (eq (include "weir.httpClients" $values) "required") -}}
exec: {command: [/usr/bin/weir, ctl, health, {{ $what }}]}
{{- else if $is_secure -}}
httpGet: {path: /health/{{ $what }}, port: weir-http, scheme: HTTPS}
{{- else -}}
httpGet: {path: /health/{{ $what }}, port: weir-http}
{{- end -}}
{{- end -}}

{{- define "weir.seccomp" -}}
{{- if eq .Values.seccomp.type "localhost" -}}
type: Localhost
localhostProfile: {{ .Values.seccomp.profile }}
{{- else if eq .Values.seccomp.type "unconfined" -}}
type: Unconfined
{{- else -}}
type: RuntimeDefault
{{- end -}}
{{- end -}}

{{/* Of a container: what Pod Security "restricted" wants, and a root that cannot be written. */}}
{{- define "weir.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
