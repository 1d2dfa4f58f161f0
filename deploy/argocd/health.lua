-- The health of a SecretBinding for Argo CD: the key
-- resource.customizations.health.bindery.dev_SecretBinding of the ConfigMap argocd-cm.
-- docs/gitops.md says how to put it there.

local function progressing(message)
  return { status = "Progressing", message = message }
end

if obj.status == nil or obj.status.conditions == nil then
  return progressing("Bindery has not looked at this binding yet")
end
-- What the status says of an earlier spec is no answer.
if obj.status.observedGeneration ~= obj.metadata.generation then
  return progressing("Bindery has not looked at this change yet")
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

local function says(type, status)
  local condition = conditions[type]
  return condition ~= nil and condition.status == status
end

if says("Suspended", "True") then
  return { status = "Suspended", message = conditions.Suspended.message }
end
if says("Stalled", "True") then
  return { status = "Degraded", message = conditions.Stalled.reason .. ": " .. conditions.Stalled.message }
end
if says("Ready", "True") then
  return { status = "Healthy", message = conditions.Ready.message }
end
if says("Ready", "False") then
  return { status = "Degraded", message = conditions.Ready.reason .. ": " .. conditions.Ready.message }
end
return progressing("Bindery is at work")
