"""Behind the decorators: arguments and their checks, the making of a group, functions bound to nodes."""
