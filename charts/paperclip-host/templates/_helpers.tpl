{{/* Name of the chart, for labels. */}}
{{- define "paperclip-host.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the release's objects. */}}
{{- define "paperclip-host.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "paperclip-host.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of objects that belong to no namespace: two releases of one name must not meet. */}}
{{- define "paperclip-host.clusterName" -}}
{{- printf "paperclip-host:%s:%s" .Release.Namespace (include "paperclip-host.fullname" .) -}}
{{- end -}}

{{/* Name of the PaperclipHost. */}}
{{- define "paperclip-host.hostName" -}}
{{- $name := default .Release.Name .Values.hostName -}}
{{- if gt (len $name) 50 -}}
{{- fail (printf "hostName %q has %d characters, at most 50 are allowed: set hostName" $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "paperclip-host.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "paperclip-host.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "paperclip-host.selectorLabels" -}}
app.kubernetes.io/name: {{ include "paperclip-host.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: host
{{- end -}}

{{- define "paperclip-host.labels" -}}
{{ include "paperclip-host.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: paperclip
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "paperclip-host.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $name := .Values.image.repository -}}
{{- if $registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "paperclip-host.claimName" -}}
{{- default (include "paperclip-host.fullname" .) .Values.persistence.existingClaim -}}
{{- end -}}

{{/* Namespaces to look for plugin pods in, separated by spaces. Empty: all. */}}
{{- define "paperclip-host.watchNamespaces" -}}
{{- if .Values.watchNamespaces -}}
{{- join " " (uniq .Values.watchNamespaces) -}}
{{- else -}}
{{- include "paperclip-host.pluginNamespaces" . -}}
{{- end -}}
{{- end -}}

{{/* Namespaces whose plugins may attach, separated by spaces. Empty: all. */}}
{{- define "paperclip-host.pluginNamespaces" -}}
{{- if eq .Values.allowedNamespaces.from "Same" -}}
{{- .Release.Namespace -}}
{{- else if eq .Values.allowedNamespaces.from "Names" -}}
{{- if not .Values.allowedNamespaces.names -}}
{{- fail "allowedNamespaces.from is Names, but allowedNamespaces.names is empty" -}}
{{- end -}}
{{- join " " (uniq .Values.allowedNamespaces.names) -}}
{{- end -}}
{{- end -}}
