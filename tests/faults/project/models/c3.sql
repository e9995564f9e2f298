{{ slow_rows(['b3']) }}
