{{/*
The pod: containers, volumes and what they share between Deployment, StatefulSet, CronJob and the container
for Qdrant's chart. Arguments are dictionaries with `root` (the chart's top) and what is said at each.
*/}}

{{- define "whyrank.image" -}}
{{- $tag := .tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{ printf "%s:%s" .root.Values.image.repository $tag | quote }}
{{- end }}

{{/*
Environment: where weights lie, keys by reference, and what the user adds. A key comes from a Secret into a
variable, and from there into the setting that needs more than the bare key; quoted as TOML, so that a key
of digits stays a text.
*/}}
{{- define "whyrank.environment" -}}
{{- $values := .root.Values -}}
- name: HOME
  value: /tmp
- name: WHYRANK_WEIGHTS
  value: /whyrank/weights
- name: ORT_DISABLE_TELEMETRY
  value: "1"
{{- with $values.qdrant.apiKey }}
- name: WHYRANK__STORE__SERVER__API_KEY
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.apiKey }}
- name: WHYRANK_GATEWAY_KEY
  {{- toYaml . | nindent 2 }}
- name: WHYRANK__GATEWAY__API_KEYS
  value: "['$(WHYRANK_GATEWAY_KEY)']"
{{- end }}
{{- if and $values.apiKey $values.qdrant.apiKey }}
- name: WHYRANK__GATEWAY__UPSTREAM_API_KEY
  value: "'$(WHYRANK__STORE__SERVER__API_KEY)'"
{{- end }}
{{- with $values.inferenceToken }}
- name: WHYRANK_INFERENCE_KEY
  {{- toYaml . | nindent 2 }}
- name: WHYRANK__SERVER__INFERENCE_TOKEN
  value: "'$(WHYRANK_INFERENCE_KEY)'"
{{- end }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts of every container of ours; `writable` for one that fetches or trains. */}}
{{- define "whyrank.mounts" -}}
{{- $values := .root.Values -}}
{{- $standalone := eq $values.mode "standalone" -}}
- name: whyrank-config
  mountPath: /whyrank/config
  readOnly: true
- name: whyrank-tmp
  mountPath: /tmp
{{- if $standalone }}
- name: whyrank-storage
  mountPath: /whyrank/store
  subPath: store
{{- end }}
- name: {{ include "whyrank.modelsVolume" .root }}
  mountPath: /whyrank/models
  {{- if eq (include "whyrank.modelsVolume" .root) "whyrank-storage" }}
  subPath: models
  {{- else if not .writable }}
  readOnly: true
  {{- end }}
- name: {{ include "whyrank.weightsVolume" .root }}
  mountPath: /whyrank/weights
  {{- if eq (include "whyrank.weightsVolume" .root) "whyrank-storage" }}
  subPath: weights
  {{- else if $values.weights.existingClaim }}
  readOnly: true
  {{- end }}
{{- if $values.tls.secretName }}
- name: whyrank-tls
  mountPath: /whyrank/tls
  readOnly: true
{{- end }}
{{- with $values.additionalVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The name of the volume that holds trained models. */}}
{{- define "whyrank.modelsVolume" -}}
{{- if and (eq .Values.mode "standalone") (not .Values.models.existingClaim) }}whyrank-storage{{ else }}whyrank-models{{ end }}
{{- end }}

{{/* The name of the volume that holds weights. */}}
{{- define "whyrank.weightsVolume" -}}
{{- if and (eq .Values.mode "standalone") (not .Values.weights.existingClaim) (not .Values.weights.persistence.enabled) }}whyrank-storage{{ else }}whyrank-weights{{ end }}
{{- end }}

{{/* The claim of the models: a given one, or the chart's. */}}
{{- define "whyrank.modelsClaim" -}}
{{- if .Values.models.existingClaim }}
{{- .Values.models.existingClaim }}
{{- else if .Values.models.persistence.enabled }}
{{- include "whyrank.fullname" . }}-models
{{- else }}
{{- fail "there is no place for trained models: give `models.existingClaim`, or enable `models.persistence`" }}
{{- end }}
{{- end }}

{{/* Volumes. `storageClaim` names the StatefulSet's claim where it is not a template of the set itself. */}}
{{- define "whyrank.volumes" -}}
{{- $values := .root.Values -}}
- name: whyrank-config
  configMap:
    name: {{ include "whyrank.fullname" .root }}
- name: whyrank-tmp
  emptyDir: {}
{{- if eq (include "whyrank.modelsVolume" .root) "whyrank-models" }}
- name: whyrank-models
  persistentVolumeClaim:
    claimName: {{ include "whyrank.modelsClaim" .root }}
{{- end }}
{{- if eq (include "whyrank.weightsVolume" .root) "whyrank-weights" }}
- name: whyrank-weights
  {{- if $values.weights.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ $values.weights.existingClaim }}
    readOnly: true
  {{- else if $values.weights.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ include "whyrank.fullname" .root }}-weights
  {{- else }}
  emptyDir:
    {{- toYaml $values.weights.emptyDir | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .storageClaim }}
- name: whyrank-storage
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- if $values.tls.secretName }}
- name: whyrank-tls
  secret:
    secretName: {{ $values.tls.secretName }}
{{- end }}
{{- with $values.additionalVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The arguments with which weights are made sure of: fetched, or hashed where they lie. */}}
{{- define "whyrank.weightsArguments" -}}
{{- if .root.Values.weights.existingClaim -}}
{{- list "check" "--config" "/whyrank/config/whyrank.toml" "--hashes" | toJson }}
{{- else -}}
{{- concat (list "fetch" "--config" "/whyrank/config/whyrank.toml") .artifacts | toJson }}
{{- end }}
{{- end }}

{{/* The init container that makes sure of the weights; `artifacts` are those that the pod loads. */}}
{{- define "whyrank.weightsContainer" -}}
- name: weights
  image: {{ include "whyrank.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ include "whyrank.weightsArguments" . }}
  env:
    {{- include "whyrank.environment" . | nindent 4 }}
    {{- with .root.Values.weights.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .resources }}
  {{- /* Fetching and hashing need no GPU. */}}
  resources:
    {{- range $kind, $amounts := . }}
    {{ $kind }}: {{ omit $amounts "nvidia.com/gpu" | toJson }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml .root.Values.containerSecurityContext | nindent 4 }}
  volumeMounts:
    {{- include "whyrank.mounts" . | nindent 4 }}
{{- end }}

{{/* A probe without the switch that is ours and not Kubernetes'. */}}
{{- define "whyrank.probe" -}}
{{- $server := (include "whyrank.config" .root | fromJson).server -}}
httpGet:
  path: {{ .path }}
  {{- if $server.health_address }}
  port: health
  {{- else }}
  port: api
  {{- if $server.certificate }}
  scheme: HTTPS
  {{- end }}
  {{- end }}
{{ omit .probe "enabled" | toYaml }}
{{- end }}

{{/* The names and numbers of a serving container's ports; `roles` says which are open. */}}
{{- define "whyrank.ports" -}}
{{- $config := include "whyrank.config" .root | fromJson -}}
- name: api
  containerPort: {{ include "whyrank.portOf" $config.server.address }}
  protocol: TCP
{{- with $config.server.health_address }}
- name: health
  containerPort: {{ include "whyrank.portOf" . }}
  protocol: TCP
{{- end }}
{{- if has "gateway" .roles }}
- name: http
  containerPort: {{ include "whyrank.portOf" $config.gateway.rest_address }}
  protocol: TCP
- name: grpc
  containerPort: {{ include "whyrank.portOf" $config.gateway.grpc_address }}
  protocol: TCP
{{- end }}
{{- end }}

{{/* What serving containers have in common, the sidecar included: `roles`, `resources`. */}}
{{- define "whyrank.serving" -}}
{{- $values := .root.Values -}}
ports:
  {{- include "whyrank.ports" . | nindent 2 }}
env:
  {{- include "whyrank.environment" . | nindent 2 }}
{{- if $values.startupProbe.enabled }}
startupProbe:
  {{- include "whyrank.probe" (dict "root" .root "path" "/livez" "probe" $values.startupProbe) | nindent 2 }}
{{- end }}
{{- if $values.livenessProbe.enabled }}
livenessProbe:
  {{- include "whyrank.probe" (dict "root" .root "path" "/livez" "probe" $values.livenessProbe) | nindent 2 }}
{{- end }}
{{- if $values.readinessProbe.enabled }}
readinessProbe:
  {{- include "whyrank.probe" (dict "root" .root "path" "/readyz" "probe" $values.readinessProbe) | nindent 2 }}
{{- end }}
{{- with $values.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $values.containerSecurityContext | nindent 2 }}
{{- end }}

{{/* The arguments of a serving process. */}}
{{- define "whyrank.serveArguments" -}}
{{- $arguments := list "serve" "--config" "/whyrank/config/whyrank.toml" -}}
{{- range .roles }}{{ $arguments = concat $arguments (list "--role" .) }}{{ end -}}
{{- $arguments | toJson }}
{{- end }}

{{/* What all pods of ours have in common: `nodeSelector` and the like come from `settings`. */}}
{{- define "whyrank.placement" -}}
serviceAccountName: {{ include "whyrank.serviceAccountName" .root }}
automountServiceAccountToken: false
{{- /* The variables that Kubernetes makes of Services would begin with `WHYRANK_` like ours. */}}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .settings.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The template of a serving pod. Arguments: `component`, `roles`, `settings` (where resources and placement are
said), `tag`.
*/}}
{{- define "whyrank.podTemplate" -}}
{{- $values := .root.Values -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $artifacts := $values.weights.artifacts -}}
{{- if has "worker" .roles }}{{ $artifacts = concat $artifacts $values.weights.workerArtifacts }}{{ end -}}
{{- $shared := dict "root" .root "roles" .roles "tag" .tag "resources" .settings.resources "writable" false -}}
{{- $preparing := mustMergeOverwrite (dict) $shared (dict "artifacts" $artifacts "writable" false) -}}
metadata:
  annotations:
    checksum/config: {{ include "whyrank.config" .root | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "whyrank.selectorLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "whyrank.placement" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with .settings.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    -
      {{- toYaml . | nindent 6 }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "whyrank.selectorLabels" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $component }}
      {{- end }}
    {{- end }}
  {{- end }}
  initContainers:
    {{- include "whyrank.weightsContainer" $preparing | nindent 4 }}
  containers:
    - name: whyrank
      image: {{ include "whyrank.image" $shared }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: {{ include "whyrank.serveArguments" . }}
      {{- include "whyrank.serving" $shared | nindent 6 }}
      volumeMounts:
        {{- include "whyrank.mounts" $shared | nindent 8 }}
  volumes:
    {{- include "whyrank.volumes" $shared | nindent 4 }}
{{- end }}

{{/* The wishes of a claim. */}}
{{- define "whyrank.claim" -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}

{{/* A container that runs one command of whyrank to its end: `name`, `command`, `resources`. */}}
{{- define "whyrank.commandContainer" -}}
- name: {{ .name }}
  image: {{ include "whyrank.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ concat (list (first .command) "--config" "/whyrank/config/whyrank.toml") (rest .command) | toJson }}
  env:
    {{- include "whyrank.environment" . | nindent 4 }}
  {{- with .resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .root.Values.containerSecurityContext | nindent 4 }}
  volumeMounts:
    {{- include "whyrank.mounts" . | nindent 4 }}
{{- end }}
