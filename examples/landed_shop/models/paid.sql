{{ config(materialized='ephemeral') }}
select schema_name as order_id, 1 as amount from {{ source('landing', 'payments') }}
