#!/usr/bin/env bash
# Rolls an image out: first what the migration needs and the migration itself, then the roles.
# Usage: k8s/roll-out.sh ENVIRONMENT REGISTRY/notification-ledger@sha256:DIGEST
set -euo pipefail
environment=$1 image=$2
namespace=notification-ledger
[[ $image =~ ^.+@sha256:[0-9a-f]{64}$ ]] || { echo 'the image must be named by its digest' >&2; exit 2; }

overlays=$(cd "$(dirname "$0")/overlays" && pwd)
folder=$(mktemp --directory "$overlays/roll-out-XXXXXX")
trap 'rm -r "$folder"' EXIT
cat > "$folder/kustomization.yaml" <<YAML
resources: [../$environment]
images: [{name: notification-ledger, newName: "${image%@*}", digest: "${image#*@}"}]
YAML
kubectl kustomize "$folder" > "$folder/rendered.yaml"

# A Job cannot be changed.
kubectl delete job migrate --namespace "$namespace" --ignore-not-found
kubectl apply --filename "$folder/rendered.yaml" --selector 'app.kubernetes.io/component in (installation, migrate)'
kubectl wait job/migrate --namespace "$namespace" --for=condition=complete --timeout=15m
kubectl apply --filename "$folder/rendered.yaml"
kubectl rollout status deployment --namespace "$namespace" --timeout=15m
