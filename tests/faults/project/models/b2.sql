{{ slow_rows(['a2']) }}
