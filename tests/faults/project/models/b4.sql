{{ slow_rows(['a4']) }}
