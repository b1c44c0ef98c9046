-- help: Attempts to act as another identity, by how they ended.
-- unit: attempts
-- window: 5m
-- labels: log, outcome
-- objective: none
--
-- Assumed roles, tokens made for other service accounts, impersonated calls. What the provider
-- does on its own behalf (`principal_kind` is `system`) is left out. There is no number that is
-- right for every estate, so this one has no objective: watch the share of `denied` and how it
-- follows deployments. Refusals that spread over many targets are reported by the detector
-- `impersonation_spike`, with the caller's name.
SELECT log, outcome, count(*) AS value
FROM events
WHERE kind = 'impersonation'
  AND principal_kind <> 'system'
  AND event_time >= $window_start AND event_time < $window_end
GROUP BY log, outcome
ORDER BY log, outcome
