"""Behind the decorators: arguments and their checks, creating the task group, functions bound to nodes."""
