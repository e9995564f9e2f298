{{ slow_rows(['b4']) }}
