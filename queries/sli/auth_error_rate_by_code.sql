-- help: Share of sign-ins and token requests that ended in each error code.
-- unit: ratio
-- window: 5m
-- labels: log, error_code
-- objective: <= 0.01
--
-- Attempts are those of `auth_success_rate`, and the codes of a log add up to what is missing
-- there to one. A code that jumps after a deployment is that deployment's; one that climbs slowly
-- is an expiring key, a clock or a quota; many codes of refused passwords are somebody guessing.
-- `error_code` is the provider's own; where it gave none, the outcome stands in its place.
-- Each log keeps its ten most frequent codes and counts the rest as `other`, so that the label
-- stays bounded whatever a log writes there. Codes are cut after 64 characters.
-- The fold comes before the total, so that only the first grouping and its ranking grow with the
-- number of codes.
WITH by_code AS (
  SELECT log,
    CASE WHEN outcome <> 'success' THEN coalesce(left(error_code, 64), outcome) END AS code,
    count(*) AS attempts
  FROM events
  WHERE kind IN ('authentication', 'token_issued', 'impersonation')
    AND outcome <> 'unknown'
    AND principal_kind <> 'system'
    AND NOT (kind = 'impersonation' AND outcome = 'error')
    AND event_time >= $window_start AND event_time < $window_end
  GROUP BY 1, 2
),
ranked AS (
  SELECT log, code, attempts,
    row_number() OVER (PARTITION BY log, code IS NULL ORDER BY attempts DESC, code) AS place
  FROM by_code
),
bounded AS (
  SELECT log, CASE WHEN place > 10 THEN 'other' ELSE code END AS error_code,
    sum(attempts) AS attempts
  FROM ranked
  GROUP BY 1, 2
),
shares AS (
  SELECT log, error_code,
    cast(attempts AS double) / sum(attempts) OVER (PARTITION BY log) AS value
  FROM bounded
)
SELECT log, error_code, value
FROM shares
WHERE error_code IS NOT NULL
ORDER BY log, error_code
