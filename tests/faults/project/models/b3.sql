{{ slow_rows(['a3']) }}
