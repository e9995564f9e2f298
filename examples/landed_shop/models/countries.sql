select schema_name as country from {{ source('landing', 'countries') }}
