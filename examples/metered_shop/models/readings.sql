{{ config(materialized='view', event_time='read_at') }}

-- Stands for what meters send: a reading an hour, from the first day of the year on.
select
    timestamp '2026-01-01' + to_hours(hour::integer) as read_at,
    1 + hour % 5 as kwh
from range(24 * 365) as hours(hour)
