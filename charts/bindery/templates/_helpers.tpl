{{- define "bindery.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "bindery.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Without a version, which would start the pods anew where nothing else changes. */ -}}
{{- define "bindery.podLabels" -}}
{{ include "bindery.selectorLabels" . }}
app.kubernetes.io/part-of: bindery
{{- end -}}

{{- define "bindery.labels" -}}
{{ include "bindery.podLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "bindery.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "bindery.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "bindery.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false: the rights should not go to every pod of the namespace" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "bindery.subjects" -}}
- kind: ServiceAccount
  name: {{ include "bindery.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- /* The rights on namespaced objects, cluster-wide or for each watched namespace. */ -}}
{{- define "bindery.namespacedRules" -}}
# Bindings are watched. Their specs are the users' alone, so none is ever written.
- apiGroups: [bindery.dev]
  resources: [secretbindings]
  verbs: [list, watch]
# Conditions are written by server-side apply.
- apiGroups: [bindery.dev]
  resources: [secretbindings/status]
  verbs: [patch]
# Published Secrets: get shows what stands under a target's name before it is written, list and watch show drift, and a
# server-side apply needs patch and, where it creates the Secret, create. Of published Secrets only metadata is asked
# for, which RBAC cannot express; and the values of a binding's own target where it restarts workloads or has rotation
# rules, to tell which keys a write changes and which value an overlap goes on with. Delete is for a Secret whose binding
# publishes under another name now; what a deleted binding leaves is left to Kubernetes' garbage collection.
# The same get and create serve the Secret of the operator's own fingerprint key.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Before it deletes such a Secret, it looks whether anything still reads it.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [apps]
  resources: [daemonsets, deployments, statefulsets]
  verbs: [list]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [list]
# What else can name such a Secret: where a kind is not installed, nothing does.
- apiGroups: [""]
  resources: [podtemplates, replicationcontrollers, serviceaccounts]
  verbs: [list]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways, referencegrants]
  verbs: [list]
- apiGroups: [argoproj.io]
  resources: [rollouts]
  verbs: [list]
# A change of a condition is told as an Event, each a new object.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.rbac.jobs }}
# A Job is made of a CronJob that a rotation rule names, if the CronJob and its namespace are annotated with
# bindery.dev/run: allowed.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create]
{{- end }}
{{- if .Values.rbac.serviceAccountTokens }}
# A grant can have secrets read as a ServiceAccount of the binding's namespace: the role that AWS is asked for stands on
# it, and a token of it, for AWS STS alone and for ten minutes, is what AWS trusts.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
{{- end }}
{{- if .Values.rbac.restarts }}
# The pods of a restarted workload are replaced by its own controller, once its pod template has another annotation: only
# where a binding asks for that (spec.restart). Pods are never deleted.
- apiGroups: [apps]
  resources: [daemonsets, deployments, statefulsets]
  verbs: [patch]
- apiGroups: [argoproj.io]
  resources: [rollouts]
  verbs: [patch]
{{- end }}
{{- end -}}
