"""The workers: processes that run one dbt at a time each, and what looks after them and after what they left."""
