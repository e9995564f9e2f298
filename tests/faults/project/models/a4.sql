{{ slow_rows([]) }}
