{{ slow_rows(['a1']) }}
