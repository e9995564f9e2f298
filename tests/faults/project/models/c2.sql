{{ slow_rows(['b2']) }}
