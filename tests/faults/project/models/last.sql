{{ slow_rows(['c1']) }}
