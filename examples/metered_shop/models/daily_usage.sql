{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    event_time='day',
    batch_size='day',
    begin='2026-01-01',
    lookback=0,
) }}

-- Of `readings`, dbt leaves this the batch that is built, and nothing else.
select
    date_trunc('day', read_at) as day,
    sum(kwh) as kwh
from {{ ref('readings') }}
group by 1
