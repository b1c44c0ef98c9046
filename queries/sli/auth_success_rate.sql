-- help: Share of sign-ins and token requests that succeeded.
-- unit: ratio
-- window: 5m
-- labels: log
-- objective: >= 0.99
--
-- An attempt is an authentication, the issuing of a token or an impersonation, by anybody but the
-- provider itself (`principal_kind` is not `system`). Below the objective, workloads do not get
-- their credentials, or somebody tries credentials that do not work: `auth_error_rate_by_code`
-- says which, `impersonation_attempts` who is refused a role.
-- Outcome `unknown` is neither good nor bad and is left out. So is an impersonation that ended in
-- `error`: it was let in, and the call behind it failed for a reason of its own (a Kubernetes
-- object that is not there). A log without attempts has no row.
SELECT log,
  cast(sum(CASE WHEN outcome = 'success' THEN 1 ELSE 0 END) AS double) / count(*) AS value
FROM events
WHERE kind IN ('authentication', 'token_issued', 'impersonation')
  AND outcome <> 'unknown'
  AND principal_kind <> 'system'
  AND NOT (kind = 'impersonation' AND outcome = 'error')
  AND event_time >= $window_start AND event_time < $window_end
GROUP BY log
ORDER BY log
