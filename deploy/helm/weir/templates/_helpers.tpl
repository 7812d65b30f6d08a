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
