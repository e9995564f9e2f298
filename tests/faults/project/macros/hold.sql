{# The models of the last third wait for a lock that a test may have. #}
{% macro hold() %}
{% if model.name.startswith('c') %}select pg_advisory_xact_lock_shared(hashtext('{{ target.schema }}')){% endif %}
{% endmacro %}
