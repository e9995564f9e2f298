{#- Makes the model named by the variable `break_model`, or by BREAK_MODEL in the environment, fail in the database. -#}
{% macro break_on_request() %}
  {%- if this.name in (var('break_model', ''), env_var('BREAK_MODEL', '')) -%}
    select order_totl from (select 1 as order_total) as misspelt
  {%- endif -%}
{% endmacro %}
