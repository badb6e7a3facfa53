{{/*
Names, labels and the configuration: what several objects share.
*/}}

{{- define "whyrank.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 40 characters: a CronJob has 52 for its name, and the suffix is one of them. */}}
{{- define "whyrank.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "whyrank.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "whyrank.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "whyrank.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "whyrank.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "whyrank.selectorLabels" -}}
app.kubernetes.io/name: {{ include "whyrank.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The component that the main Service stands for. */}}
{{- define "whyrank.mainComponent" -}}
{{- if eq .Values.mode "standalone" }}standalone{{ else }}gateway{{ end }}
{{- end }}

{{/* What the main Service selects: pods of this chart, or Qdrant's with the sidecar in them. */}}
{{- define "whyrank.mainSelector" -}}
{{- if eq .Values.mode "sidecar" -}}
{{ toYaml .Values.sidecar.selectorLabels }}
{{- else -}}
{{ include "whyrank.selectorLabels" . }}
app.kubernetes.io/component: {{ include "whyrank.mainComponent" . }}
{{- end }}
{{- end }}

{{- define "whyrank.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "whyrank.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Whether there is a Deployment for the LLM alone: "true" or nothing. */}}
{{- define "whyrank.hasWorker" -}}
{{- if and (eq .Values.mode "gateway") .Values.worker.enabled }}true{{ end }}
{{- end }}

{{/*
The configuration: what the chart knows (paths, the engine, the addresses within a pod), and over it
`config`. JSON, because templates return text.
*/}}
{{- define "whyrank.config" -}}
{{- $own := dict
      "models_folder" "/whyrank/models"
      "weights" (dict "folder" "/whyrank/weights")
      "store" (dict "backend" (eq .Values.mode "standalone" | ternary "embedded" "server")
                    "embedded" (dict "folder" "/whyrank/store")) }}
{{- if .Values.tls.secretName }}
{{- $_ := set $own "gateway" (dict "certificate" "/whyrank/tls/tls.crt" "certificate_key" "/whyrank/tls/tls.key") }}
{{- if .Values.tls.api }}
{{- $_ := set $own "server" (dict "certificate" "/whyrank/tls/tls.crt" "certificate_key" "/whyrank/tls/tls.key") }}
{{- end }}
{{- else if .Values.tls.api }}
{{- fail "`tls.api` needs the certificate of `tls.secretName`" }}
{{- end }}
{{- $config := mergeOverwrite $own (deepCopy .Values.config) }}
{{- if eq .Values.mode "sidecar" }}
{{- $local := dict
      "gateway" (dict "upstream_rest" (printf "http://localhost:%d" (int .Values.sidecar.restPort)))
      "store" (dict "server" (dict "url" (printf "http://localhost:%d" (int .Values.sidecar.grpcPort)))) }}
{{- $config = mergeOverwrite $config $local }}
{{- end }}
{{- if and $config.server.client_certificate_authority (not $config.server.health_address) }}
{{- fail "`config.server.client_certificate_authority` needs `config.server.health_address`, such as \"0.0.0.0:6381\": probes have no certificate" }}
{{- end }}
{{- toJson $config }}
{{- end }}

{{/* The port of an address in the configuration; argument: the address. */}}
{{- define "whyrank.portOf" -}}
{{- splitList ":" . | last }}
{{- end }}

{{/*
A table as TOML. Helm's own `toToml` writes every whole number of a values file as a floating-point one
(`16777216` becomes `1.6777216e+07`), which a setting that counts something rightly refuses. Here a whole
number stays one; a setting that takes fractions takes whole numbers too.
Argument: a dictionary with `table` and, below the top, `path`.
*/}}
{{- define "whyrank.toml" -}}
{{- $path := .path | default "" }}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "whyrank.tomlKey" $key }} = {{ include "whyrank.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $name := printf "%s%s" $path (include "whyrank.tomlKey" $key) }}

[{{ $name }}]
{{- include "whyrank.toml" (dict "table" $value "path" (printf "%s." $name)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whyrank.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- define "whyrank.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- $first := true }}{{ range $key, $value := . }}{{ if not $first }},{{ end }} {{ include "whyrank.tomlKey" $key }} = {{ include "whyrank.tomlValue" $value }}{{ $first = false }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $index, $value := . }}{{ if $index }}, {{ end }}{{ include "whyrank.tomlValue" $value }}{{ end }}]
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ toJson . }}{{ end }}
{{- else -}}
{{ toJson . }}
{{- end }}
{{- end }}
