{# A model that takes a while: long enough for something to fail meanwhile, and no work for the processor. #}
{% macro slow_rows(parents) %}
select 1 as id, pg_sleep({{ var('seconds', 0.7) }}) is null as slept
{% for parent in parents %}
from {{ ref(parent) }}
{% endfor %}
{% endmacro %}
