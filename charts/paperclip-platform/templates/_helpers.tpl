{{/* Name of the chart, for labels. */}}
{{- define "paperclip-platform.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the release's objects. */}}
{{- define "paperclip-platform.fullname" -}}
{{- default "paperclip-operator" .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of objects that belong to no namespace: two releases of one name must not meet. */}}
{{- define "paperclip-platform.clusterName" -}}
{{- printf "paperclip-platform:%s:%s" .Release.Namespace (include "paperclip-platform.fullname" .) -}}
{{- end -}}

{{- define "paperclip-platform.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "paperclip-platform.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select pods. Takes (dict "root" $ "component" NAME). */}}
{{- define "paperclip-platform.selectorLabels" -}}
app.kubernetes.io/name: {{ include "paperclip-platform.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels. Takes (dict "root" $ "component" NAME). */}}
{{- define "paperclip-platform.labels" -}}
{{ include "paperclip-platform.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: paperclip
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Reference of one of the images. Takes (dict "root" $ "image" VALUES). */}}
{{- define "paperclip-platform.image" -}}
{{- $registry := default .root.Values.image.registry .root.Values.global.imageRegistry -}}
{{- $name := .image.repository -}}
{{- if $registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "paperclip-platform.store" -}}
paperclip-store
{{- end -}}

{{/* Security of every container. */}}
{{- define "paperclip-platform.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
