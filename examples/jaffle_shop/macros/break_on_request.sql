{#- Makes the model named by the variable `break_model` fail in the database; does nothing for all others. -#}
{% macro break_on_request() %}
  {%- if var('break_model', '') == this.name -%}
    select order_totl from (select 1 as order_total) as misspelt
  {%- endif -%}
{% endmacro %}
