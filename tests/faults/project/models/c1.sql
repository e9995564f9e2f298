{{ slow_rows(['b1']) }}
